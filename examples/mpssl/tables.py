"""The tables of a comparison, for the console and as Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from examples.mpssl.pictures import RANDOM, SUMMARIZED, draw_summary

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


def summary(kinds: Mapping[str, Results]) -> tuple[str, list[str], list[list[str]]]:
    """Return one table of runs on several kinds of image: its title, header and rows of text.

    Args:
        kinds: For each kind of image the results of the same runs.
    """
    any_result = next(iter(next(iter(kinds.values())).values()))
    shown = [(factor, probe) for factor, probe in SUMMARIZED if factor in any_result["probes"]]
    header = ["images", "trunk"]
    header += [f"{factor}, {probe.replace('block', 'block ')}" for factor, probe in shown]
    rows = []
    for kind, results in kinds.items():
        for index, (name, result) in enumerate(results.items()):
            cells = [f"{100 * result['probes'][factor][probe]:.1f}" for factor, probe in shown]
            told = _percent({} if name == RANDOM else result["pretext"], ["rotation"])
            rows.append([kind if index == 0 else "", name, *cells, *told])
    chances = {factor: f"{100 * any_result['chance'][factor]:.1f}" for factor, _ in shown}
    rows.append(["", "chance", *[chances[factor] for factor, _ in shown], "25.0"])
    title = (
        "What the trunks have learned without a label: test accuracy (%) of linear probes after a "
        "block, and how many rotations of new images are told"
    )
    return title, [*header, "rotations told"], rows


def summarize(
    kinds: Mapping[str, Results], folder: Path, *, command: str, console: Console
) -> None:
    """Print what several kinds of image show, and write it as Markdown and as a picture.

    Args:
        kinds: For each kind of image the results of the same runs.
        folder: Where the files go.
        command: What made the results, to be written beside the table.
        console: Where to print.
    """
    title, header, rows = summary(kinds)
    lines = describe(next(iter(kinds.values())))
    text = ["```", command, "```", "", f"{title}:", "", *_markdown(header, rows, num_text=2)]
    text += ["", *(f"- {line}" for line in lines)]
    (folder / "summary.md").write_text("\n".join(text) + "\n")
    draw_summary(kinds, folder / "summary.png")
    console.print(_table(title, header, rows))
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


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
        lines += ["", f"{title}:", "", *_markdown(header, rows, num_text=num_text)]
    lines += ["", *(f"- {line}" for line in describe(results))]
    return "\n".join(lines) + "\n"


def print_comparison(results: Results, console: Console) -> None:
    """Print the tables of a comparison, and how each run was balanced.

    Args:
        results: For each run its results.
        console: Where to print.
    """
    for title, header, rows in tables(results):
        console.print(_table(title, header, rows))
    for line in describe(results):
        console.print(line, highlight=False, soft_wrap=True)


def _markdown(header: list[str], rows: list[list[str]], *, num_text: int) -> list[str]:
    rule = ["---"] * num_text + ["---:"] * (len(header) - num_text)
    return [f"| {' | '.join(row)} |" for row in (header, rule, *rows)]


def _table(title: str, header: list[str], rows: list[list[str]]) -> Table:
    """A table for the console; a row with its first cell begins a section."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, name in enumerate(header):
        text = index == 0 or name == "trunk"
        table.add_column(name, justify="left" if text else "right", overflow="fold")
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        chance = row[1] == "chance"
        ends = chance or (following is not None and "trunk" in header[1:] and following[0] != "")
        table.add_row(*row, style="dim" if chance else None, end_section=ends)
    return table


def _percent(scores: Mapping[str, float], keys: Sequence[str]) -> list[str]:
    return [f"{100 * scores[key]:.1f}" if key in scores else "–" for key in keys]
