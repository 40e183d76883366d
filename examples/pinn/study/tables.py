"""The tables of a study: errors by method, and paired differences to the recommended method."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from examples.common.intervals import interval
from examples.common.markdown import table_lines
from examples.pinn.problems import PROBLEMS
from examples.pinn.study.methods import METHODS

Results = Sequence[dict[str, Any]]
Rows = list[list[str]]

RECOMMENDED = "upgrad"
_FEWEST_PAIRS = 5
_TEXT = ("method", "solver", "scale")
_HEADER = ["method", "solver", "scale", "seeds", "error", "best", "worst", "after Adam", "CPU s"]


def names(results: Results) -> list[str]:
    """Return the names of the methods in the results, in the order of ``METHODS``, then others.

    Args:
        results: The results of the runs.
    """
    found = dict.fromkeys(result["config"]["name"] for result in results)
    return [name for name in METHODS if name in found] + [n for n in found if n not in METHODS]


def errors(results: Results, name: str, key: str = "error") -> dict[int, float]:
    """Return the errors of a method's runs by seed; infinity for a run without an error.

    Args:
        results: The results of the runs.
        name: The name of the method.
        key: "error", or "error_adam" for the error before L-BFGS.
    """
    found = {}
    for result in results:
        if result["config"]["name"] == name:
            error = result[key]
            found[result["config"]["seed"]] = float("inf") if error is None else float(error)
    return dict(sorted(found.items()))


def error_table(results: Results) -> Rows:
    """Return the header, and one row of text per method.

    Args:
        results: The results of the runs.
    """
    rows = [_HEADER]
    for name in names(results):
        runs = [result for result in results if result["config"]["name"] == name]
        config = runs[0]["config"]
        last = np.array(list(errors(results, name).values()))
        rows.append(
            [
                name,
                config["solver"] + (f" × {config['factor']:g}" if config["factor"] != 1 else ""),
                config["scale"],
                str(len(last)),
                spread(last),
                f"{last.min():.3g}",
                f"{last.max():.3g}",
                spread(np.array(list(errors(results, name, "error_adam").values()))),
                f"{np.mean([run['seconds'] for run in runs]):.0f}",
            ]
        )
    return rows


def paired_table(results: Results) -> Rows:
    """Return a table of the errors' differences from the recommended method on the same seeds.

    It has only methods with at least five common seeds, and is empty if there are none.

    Args:
        results: The results of the runs.
    """
    base = errors(results, RECOMMENDED)
    rows = []
    for name in names(results):
        pairs = [(e, base[seed]) for seed, e in errors(results, name).items() if seed in base]
        if name != RECOMMENDED and len(pairs) >= _FEWEST_PAIRS and np.isfinite(pairs).all():
            theirs, ours = np.array(pairs).T
            mean, low, high = interval(theirs - ours)
            ratio = np.exp(interval(np.log(theirs / ours)))
            rows.append(
                [
                    name,
                    str(len(pairs)),
                    f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]",
                    f"{ratio[0]:.2f} [{ratio[1]:.2f}, {ratio[2]:.2f}]",
                ]
            )
    header = ["method", "seeds", f"error − that of {RECOMMENDED}", "ratio of the two"]
    return [header, *rows] if rows else []


def spread(values: NDArray[np.float64]) -> str:
    """Return mean ± standard deviation as text.

    Args:
        values: One or more values.
    """
    if len(values) == 1 or not np.isfinite(values).all():
        return f"{values.mean():.3g}"
    return f"{values.mean():.3g} ± {values.std(ddof=1):.2g}"


def tables(results: Results) -> list[tuple[str, Rows]]:
    """Return the titles and the rows of one or two tables.

    Args:
        results: The results of the runs.
    """
    config = results[0]["config"]
    title = (
        f"{PROBLEMS[config['problem']]().title}: relative L2 error after {config['adam_steps']} "
        f"steps of Adam and {config['lbfgs_steps']} iterations of L-BFGS, {config['dtype']}, "
        "mean ± sd over the seeds"
    )
    paired = (
        f"The same seeds, paired with {RECOMMENDED}: mean and 95 % confidence interval "
        "(the ratio is a geometric mean)"
    )
    both = [(title, error_table(results)), (paired, paired_table(results))]
    return [(title, rows) for title, rows in both if rows]


def as_markdown(results: Results, command: str) -> str:
    """Return the tables as Markdown, with the command that made them.

    Args:
        results: The results of the runs.
        command: The command that made them.
    """
    lines = ["```", command, "```"]
    for title, rows in tables(results):
        num_text = sum(column in _TEXT for column in rows[0])
        lines += ["", f"{title}:", "", *table_lines(rows[0], rows[1:], num_text=num_text)]
    return "\n".join(lines) + "\n"


def print_tables(results: Results, console: Console) -> None:
    """Print the tables.

    Args:
        results: The results of the runs.
        console: The console to print to.
    """
    for title, rows in tables(results):
        shown = Table(title=title, title_justify="left", title_style="bold")
        for column in rows[0]:
            shown.add_column(column, justify="left" if column in _TEXT else "right")
        for row in rows[1:]:
            shown.add_row(*row)
        console.print(shown)
