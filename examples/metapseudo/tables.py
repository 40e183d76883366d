"""The table of a comparison, for the console and as Markdown."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

Results = Sequence[dict[str, Any]]


def budgets(results: Results) -> list[int]:
    """Return the numbers of labels a class that occur, in order.

    Args:
        results: Of runs.
    """
    return sorted({result["config"]["labels_per_class"] for result in results})


def variants(results: Results) -> list[str]:
    """Return the variants that occur, in order; a run is named by variant, labels and seed.

    Args:
        results: Of runs.
    """
    return list(dict.fromkeys(result["config"]["variant"] for result in results))


def of(results: Results, variant: str, labels: int, key: str) -> list[list[float]]:
    """Return the evaluations of the seeds of a variant, each as its values in order.

    Args:
        results: Of runs.
        variant: Which.
        labels: A class.
        key: "accuracy", "gap" or "step".
    """
    return [
        [evaluation[key] for evaluation in result["evaluations"] if key in evaluation]
        for result in results
        if result["config"]["variant"] == variant and result["config"]["labels_per_class"] == labels
    ]


def table(results: Results) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of text: a row a variant, two columns a number of labels.

    Args:
        results: Of runs.
    """
    header = ["variant"]
    for labels in budgets(results):
        header += [f"accuracy (%), {labels} labels", f"gap, {labels} labels"]
    rows = []
    for variant in variants(results):
        row = [variant]
        for labels in budgets(results):
            last = [values[-1] for values in of(results, variant, labels, "accuracy") if values]
            gaps = [values[-1] for values in of(results, variant, labels, "gap") if values]
            row += [_spread(last, 100, 1), _spread(gaps, 1, 3)]
        rows.append(row)
    return header, rows


def as_markdown(results: Results, command: str) -> str:
    """Return a comparison as Markdown: its command and its table.

    Args:
        results: Of runs.
        command: What made them.
    """
    header, rows = table(results)
    rule = ["---"] + ["---:"] * (len(header) - 1)
    lines = ["```", command, "```", "", f"{_title(results)}:", ""]
    lines += [f"| {' | '.join(row)} |" for row in (header, rule, *rows)]
    return "\n".join(lines) + "\n"


def print_table(results: Results, console: Console) -> None:
    """Print the table of a comparison.

    Args:
        results: Of runs.
        console: Where to print.
    """
    header, rows = table(results)
    shown = Table(title=_title(results), title_justify="left", title_style="bold")
    for index, name in enumerate(header):
        shown.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        shown.add_row(*row)
    console.print(shown)


def _title(results: Results) -> str:
    num_seeds = len({result["config"]["seed"] for result in results})
    seeds = "one seed" if num_seeds == 1 else f"mean ± sd of {num_seeds} seeds"
    steps = results[0]["config"]["num_steps"]
    return (
        f"Test accuracy after {steps} steps, by labels a class, and the relative feature gap of "
        f"the samples ({seeds})"
    )


def _spread(values: Sequence[float], factor: float, digits: int) -> str:
    if not values:
        return "–"
    mean = f"{factor * np.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {factor * np.std(values, ddof=1):.{digits}f}"
