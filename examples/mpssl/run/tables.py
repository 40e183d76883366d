"""The tables of a comparison, for the console and as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from examples.common.markdown import table_lines

Results = dict[str, dict[str, Any]]
Rows = tuple[str, list[str], list[list[str]]]  # a table: its title, header and rows of text

RANDOM = "random init"
# The probes in a summary: shape, which rotation alone learns, and texture, which it does not.
SUMMARIZED = (("shape", "block4"), ("texture", "block2"), ("texture", "block4"))


def tables(results: Results) -> list[Rows]:
    """Return the tables of a comparison, each as its title, header and rows of text.

    Args:
        results: The results of each run.
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
    if not tasks:
        return [(title, header, rows)]
    pretext_rows = [[name, *_percent(r["pretext"], tasks)] for name, r in results.items()]
    pretext_title = (
        "Accuracy (%) on the pretext tasks, each trunk on the mix of its own tasks (chance: 25)"
    )
    return [(title, header, rows), (pretext_title, ["trunk", *tasks], pretext_rows)]


def summary(kinds: Mapping[str, Results]) -> Rows:
    """Return one table of runs on several kinds of images: its title, header and rows of text.

    Args:
        kinds: For each kind of image, the results of the same runs.
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


def summary_as_markdown(kinds: Mapping[str, Results], command: str) -> str:
    """Return the table of runs on several kinds of images as Markdown, with its command.

    Args:
        kinds: For each kind of image, the results of the same runs.
        command: The command that made the results.
    """
    return _page([summary(kinds)], next(iter(kinds.values())), command)


def print_summary(kinds: Mapping[str, Results], console: Console) -> None:
    """Print the table of runs on several kinds of images, and how each run was balanced.

    Args:
        kinds: For each kind of image, the results of the same runs.
        console: The console to print to.
    """
    _print([summary(kinds)], next(iter(kinds.values())), console)


def describe(results: Results) -> list[str]:
    """Return a line for each trained run that says how its tasks were balanced.

    Args:
        results: The results of each run.
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
        results: The results of each run.
        command: The command that made the results.
    """
    return _page(tables(results), results, command)


def print_comparison(results: Results, console: Console) -> None:
    """Print the tables of a comparison, and how each run was balanced.

    Args:
        results: The results of each run.
        console: The console to print to.
    """
    _print(tables(results), results, console)


def _page(shown: Sequence[Rows], results: Results, command: str) -> str:
    lines = ["```", command, "```"]
    for title, header, rows in shown:
        num_text = header.index("trunk") + 1
        lines += ["", f"{title}:", "", *table_lines(header, rows, num_text=num_text)]
    lines += ["", *(f"- {line}" for line in describe(results))]
    return "\n".join(lines) + "\n"


def _print(shown: Sequence[Rows], results: Results, console: Console) -> None:
    for title, header, rows in shown:
        num_text = header.index("trunk") + 1
        table = Table(title=title, title_justify="left", title_style="bold")
        for index, name in enumerate(header):
            justify: Any = "left" if index < num_text else "right"
            table.add_column(name, justify=justify, overflow="fold")
        for row, following in zip(rows, [*rows[1:], [""]], strict=True):
            # Only the first row of a section has text in the columns before the trunk's name.
            ends = num_text > 1 and following[0] != ""
            table.add_row(*row, style="dim" if "chance" in row else None, end_section=ends)
        console.print(table)
    for line in describe(results):
        console.print(line, highlight=False, soft_wrap=True)


def _percent(scores: Mapping[str, float], keys: Sequence[str]) -> list[str]:
    return [f"{100 * scores[key]:.1f}" if key in scores else "–" for key in keys]
