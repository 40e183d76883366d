"""The tables of a comparison, for the console and as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

RANDOM = "random init"
Results = dict[str, dict[str, Any]]


def tables(results: Results) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return the tables of a comparison, each as its title, header and rows of text.

    Args:
        results: For each run its results.
    """
    any_result = next(iter(results.values()))
    blocks = list(next(iter(any_result["probes"].values())))
    rows = []
    for factor, chance in any_result["chance"].items():
        for index, (name, result) in enumerate(results.items()):
            cells = _percent(result["probes"][factor], blocks)
            rows.append([factor if index == 0 else "", name, *cells])
        rows.append(["", "chance", *[f"{100 * chance:.1f}"] * len(blocks)])
    header = ["probe of", "trunk", *(block.replace("block", "block ") for block in blocks)]
    title = (
        "Test accuracy (%) of probes on the frozen trunk: linear after each block, kNN after the "
        f"last ({any_result['num_train']} training and {any_result['num_test']} test images)"
    )
    tasks = list(any_result["pretext"])
    pretext_rows = [[name, *_percent(r["pretext"], tasks)] for name, r in results.items()]
    pretext_title = (
        "Accuracy (%) on the pretext tasks, each trunk on the mix of its own tasks (chance: 25)"
    )
    return [(title, header, rows), (pretext_title, ["trunk", *tasks], pretext_rows)]


def describe(results: Results) -> list[str]:
    """Return a line for each trained run: how its tasks were balanced.

    Args:
        results: For each run its results.
    """
    lines = []
    for name, result in results.items():
        if name != RANDOM:
            config = result["config"]
            lines.append(
                f"{name}: {', '.join(config['tasks'])}; {config['solver']}, "
                f"source {config['source']}, scale {config['scale']}"
            )
    return lines


def as_markdown(results: Results, command: str) -> str:
    """Return a comparison as Markdown: its command, tables, and how each run was balanced.

    Args:
        results: For each run its results.
        command: What made them.
    """
    lines = ["```", command, "```"]
    for title, header, rows in tables(results):
        num_text = 2 if header[0] == "probe of" else 1
        rule = ["---"] * num_text + ["---:"] * (len(header) - num_text)
        lines += ["", f"{title}:", ""]
        lines += [f"| {' | '.join(row)} |" for row in (header, rule, *rows)]
    lines += ["", *(f"- {line}" for line in describe(results))]
    return "\n".join(lines) + "\n"


def print_comparison(results: Results, console: Console) -> None:
    """Print the tables of a comparison, and how each run was balanced.

    Args:
        results: For each run its results.
        console: Where to print.
    """
    for title, header, rows in tables(results):
        table = Table(title=title, title_justify="left", title_style="bold")
        for index, name in enumerate(header):
            text = index == 0 or name == "trunk"
            table.add_column(name, justify="left" if text else "right", overflow="fold")
        for row in rows:
            chance = row[1] == "chance"
            table.add_row(*row, style="dim" if chance else None, end_section=chance)
        console.print(table)
    for line in describe(results):
        console.print(line, highlight=False, soft_wrap=True)


def _percent(scores: Mapping[str, float], keys: Sequence[str]) -> list[str]:
    return [f"{100 * scores[key]:.1f}" if key in scores else "–" for key in keys]
