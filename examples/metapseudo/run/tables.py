"""Tables of results, for the console and as Markdown."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from examples.common.markdown import table_lines

Results = Sequence[dict[str, Any]]

# What is measured: its title, the factor by which it is multiplied, and the digits.
MEASURES = {
    "accuracy": ("accuracy (%)", 100, 1),
    "target_like": ("target-like (%)", 100, 1),
    "gap": ("gap", 1, 3),
}


def budgets(results: Results) -> list[int]:
    """Return the numbers of labels per class that occur, in order.

    Args:
        results: Results of runs.
    """
    return sorted({result["config"]["labels_per_class"] for result in results})


def variants(results: Results) -> list[str]:
    """Return the variants that occur, in order; a run is named by variant, labels and seed.

    Args:
        results: Results of runs.
    """
    return list(dict.fromkeys(result["config"]["variant"] for result in results))


def last(results: Results, variant: str, labels: int, key: str) -> dict[int, float]:
    """Return the last evaluation of a variant, by seed.

    Args:
        results: Results of runs.
        variant: Name of the variant.
        labels: Number of labels per class.
        key: What was measured, a key of ``MEASURES``; runs where it is not known are left out.
    """
    return {
        result["config"]["seed"]: result["evaluations"][-1][key]
        for result in results
        if result["config"]["variant"] == variant
        and result["config"]["labels_per_class"] == labels
        and key in result["evaluations"][-1]
    }


def table(
    results: Results, measures: Sequence[str] = tuple(MEASURES)
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a table: a row for each variant, columns by number of labels.

    Args:
        results: Results of runs.
        measures: Keys of ``MEASURES``; variants that have none of them are left out.
    """
    columns = [(labels, key) for labels in budgets(results) for key in measures]
    header = ["variant"] + [f"{MEASURES[key][0]}, {labels} labels" for labels, key in columns]
    rows = []
    for variant in variants(results):
        cells = [spread(last(results, variant, labels, key), key) for labels, key in columns]
        if any(cell != "–" for cell in cells):
            rows.append([variant, *cells])
    return header, rows


def spread(values: dict[int, float], key: str) -> str:
    """Return mean and standard deviation as text.

    Args:
        values: Values by seed.
        key: What was measured, a key of ``MEASURES``.
    """
    if not values:
        return "–"
    _, factor, digits = MEASURES[key]
    shown = factor * np.array(list(values.values()))
    mean = f"{shown.mean():.{digits}f}"
    return mean if len(shown) == 1 else f"{mean} ± {shown.std(ddof=1):.{digits}f}"


def as_markdown(results: Results, command: str) -> str:
    """Return a comparison as Markdown: its command and its table.

    Args:
        results: Results of runs.
        command: The command that made them.
    """
    lines = ["```", command, "```", "", f"{title(results)}:", "", *table_lines(*table(results))]
    return "\n".join(lines) + "\n"


def print_table(results: Results, console: Console) -> None:
    """Print the table of a comparison.

    Args:
        results: Results of runs.
        console: Where to print.
    """
    header, rows = table(results)
    shown = Table(title=title(results), title_justify="left", title_style="bold")
    for index, name in enumerate(header):
        shown.add_column(
            name, justify="left" if index == 0 else "right", overflow="fold", no_wrap=index == 0
        )
    for row in rows:
        shown.add_row(*row)
    console.print(shown)


def title(results: Results) -> str:
    """Return the title of a table: what the figures are, and of how many seeds.

    Args:
        results: Results of runs.
    """
    seeds = {labels: _num_seeds(results, labels) for labels in budgets(results)}
    if len(set(seeds.values())) == 1:
        number = of_seeds(next(iter(seeds.values())))
    else:
        each = ", ".join(f"{num} at {labels}" for labels, num in seeds.items())
        number = f"mean ± sd; seeds by labels: {each}"
    steps = results[0]["config"]["num_steps"]
    return (
        f"Test accuracy after {steps} steps, by labels a class; the share of target-like samples; "
        f"and their gap (MMD) from test images ({number})"
    )


def of_seeds(number: int) -> str:
    """Return what a figure is for a number of seeds: a mean with deviation, or a single value.

    Args:
        number: Number of seeds.
    """
    return "one seed" if number == 1 else f"mean ± sd of {number} seeds"


def _num_seeds(results: Results, labels: int) -> int:
    configs = [result["config"] for result in results]
    return len({config["seed"] for config in configs if config["labels_per_class"] == labels})
