"""Shows the cost of steps as tables and as a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure

from benchmarks.environment import heading

# The lines of the picture: our ways have a colour each, and those of TorchJD are grey.
_STYLES: dict[str, dict[str, Any]] = {
    "losses only": {"color": "C7"},
    "representation": {"color": "C2"},
    "shared-last": {"color": "C4"},
    "shared, every=10": {"color": "C8"},
    "sketch, d=4096": {"color": "C1"},
    "shared": {"color": "C0", "linewidth": 2},
    "TorchJD, chunk 1": {"color": "0.3", "linestyle": ":"},
    "TorchJD, chunk T": {"color": "0.5", "linestyle": "--"},
    "TorchJD, Gramian engine": {"color": "0.6", "linestyle": "-."},
}


def as_markdown(result: Mapping[str, Any], what: str) -> str:
    """Return tables of time and memory for each family.

    Args:
        result: the result of the benchmark.
        what: the docstring of the benchmark.
    """
    lines = heading("What a balanced step costs", what, result["environment"])
    lines += [f"- {result['turns']} turns"]
    for family, by_tasks in _families(result).items():
        header = [family, *(f"T = {num_tasks}" for num_tasks in by_tasks)]
        ways = list(next(iter(by_tasks.values())))
        for title, cell in (("time over plain", _time), ("time over the floor", _floor)):
            lines += ["", f"## {family}: {title}", "", *_table(header, ways, by_tasks, cell)]
        lines += ["", f"## {family}: peak memory over plain", ""]
        lines += _table(header, ways, by_tasks, _memory)
    failed = {
        f"- {way}, {key.replace('/', ', T = ')}: {line['failed']}"
        for key, found in result["found"].items()
        for way, line in found.items()
        if "failed" in line
    }
    lines += ["", "Failed:", *sorted(failed)] if failed else []
    return "\n".join(lines) + "\n"


@style.context("gradbalance.pictures")
def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw time and memory over the number of tasks.

    Args:
        result: the result of the benchmark.
        path: file of the picture.
    """
    families = _families(result)
    figure = Figure(figsize=(3.6 * len(families), 6.4))
    grid = figure.subplots(2, len(families), squeeze=False, sharex=True)
    for column, (family, by_tasks) in zip(grid.T, families.items(), strict=True):
        for way, line_style in _STYLES.items():
            lines = {t: found[way] for t, found in by_tasks.items() if way in found}
            done = {t: line for t, line in lines.items() if "failed" not in line}
            options = {"marker": ".", **line_style, "label": way}
            column[0].plot(
                list(done), [line["over_plain"]["median"] for line in done.values()], **options
            )
            column[1].plot(
                list(done), [line["peak_over_plain"] for line in done.values()], **options
            )
        column[0].set_title(family)
        for axes in column:
            axes.set(xscale="log", yscale="log")
            axes.set_xticks(list(by_tasks), [str(t) for t in by_tasks], minor=False)
            axes.minorticks_off()
            axes.grid()
        column[1].set_xlabel("tasks")
    grid[0, 0].set_ylabel("time over plain")
    grid[1, 0].set_ylabel("peak memory over plain")
    for axes in grid.flat:
        low, high = axes.get_ylim()
        ticks = [tick for tick in (1, 2, 4, 8, 16, 32) if low <= tick <= high]
        axes.set_yticks(ticks, [str(tick) for tick in ticks])
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path)


def _families(result: Mapping[str, Any]) -> dict[str, dict[int, dict[str, Any]]]:
    families: dict[str, dict[int, dict[str, Any]]] = {}
    for key, found in result["found"].items():
        family, num_tasks = key.split("/")
        families.setdefault(family, {})[int(num_tasks)] = found
    return families


def _table(header: list[str], ways: list[str], by_tasks: Mapping[int, Any], cell: Any) -> list[str]:
    lines = [f"| {' | '.join(header)} |", f"| {' | '.join(['---'] + ['---:'] * len(by_tasks))} |"]
    for way in ways:
        cells = [
            "failed" if "failed" in found[way] else cell(found[way]) for found in by_tasks.values()
        ]
        lines.append(f"| {' | '.join([way, *cells])} |")
    return lines


def _time(line: Mapping[str, Any]) -> str:
    return _spread(line["over_plain"])


def _floor(line: Mapping[str, Any]) -> str:
    return _spread(line["over_floor"])


def _spread(spread: Mapping[str, float]) -> str:
    return f"{spread['median']:.2f} ({spread['low']:.2f}–{spread['high']:.2f})"


def _memory(line: Mapping[str, Any]) -> str:
    return f"{line['peak_over_plain']:.2f}"
