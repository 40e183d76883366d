"""Writes the measurements of the solvers as Markdown tables and as JSON."""

import math
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from benchmarks.environment import environment
from benchmarks.results import write_json
from benchmarks.timing import Comparison, Spread


@dataclass(frozen=True)
class TimeLine:
    """The times of our solver and a peer's, on one family with one number of tasks."""

    method: str
    family: str
    num_tasks: int
    peer: str
    found: Comparison

    def cells(self) -> list[str]:
        """The cells of a table row."""
        found = self.found
        return [
            self.family,
            str(self.num_tasks),
            self.peer,
            _spread(found.ours),
            _spread(found.theirs),
            _spread(found.ratio),
            str(found.num_pairs),
            str(found.num_failed),
        ]


@dataclass(frozen=True)
class AccuracyLine:
    """The accuracy of one solver's answers, over all draws with one number of tasks."""

    method: str
    num_tasks: int
    package: str
    num_draws: int
    num_failed: int
    num_conflicts: int
    worst_cosine: float | None
    num_defined: int
    median_error: float | None
    worst_error: float | None

    @classmethod
    def of(
        cls,
        method: str,
        num_tasks: int,
        package: str,
        num_draws: int,
        cosines: list[float],
        errors: list[float],
        conflict: float,
    ) -> "AccuracyLine":
        """Summarise `cosines` and `errors`, which come from the draws that did not fail."""
        errors = [error for error in errors if not math.isnan(error)]
        return cls(
            method,
            num_tasks,
            package,
            num_draws,
            num_draws - len(cosines),
            sum(cosine < conflict for cosine in cosines),
            min(cosines, default=None),
            len(errors),
            float(np.median(errors)) if errors else None,
            max(errors, default=None),
        )

    def cells(self) -> list[str]:
        """The cells of a table row."""
        return [
            str(self.num_tasks),
            self.package,
            str(self.num_draws),
            str(self.num_failed),
            str(self.num_conflicts),
            _small(self.worst_cosine),
            str(self.num_defined),
            _small(self.median_error),
            _small(self.worst_error),
        ]


_TIME_HEADS = [
    "gradients",
    "tasks",
    "beside",
    "ours, µs",
    "theirs, µs",
    "theirs / ours",
    "pairs",
    "of them failed",
]
_ACCURACY_HEADS = [
    "tasks",
    "package",
    "draws",
    "failed",
    "with a conflict",
    "worst cosine",
    "defined",
    "error, median",
    "error, worst",
]


def write(
    folder: Path,
    claim: str,
    times: list[TimeLine],
    errors: list[AccuracyLine],
    missing: list[str],
) -> None:
    """Write solvers.md and solvers.json."""
    folder.mkdir(parents=True, exist_ok=True)
    found_in = environment()
    parts = [f"# {claim.splitlines()[0]}", ", ".join(f"{k} {v}" for k, v in found_in.items())]
    if missing:
        parts.append(f"Not installed, so left out: {', '.join(missing)}.")
    parts.append("What the columns mean: [README.md](README.md).")
    parts += ["## In short", _summary(times, errors)]
    for method, lines in groupby(times, key=lambda line: line.method):
        parts += [f"## {method}", _table(_TIME_HEADS, [line.cells() for line in lines])]
        held = [line.cells() for line in errors if line.method == method]
        parts.append(_table(_ACCURACY_HEADS, held))
    (folder / "solvers.md").write_text("\n\n".join(parts) + "\n")
    data = {
        "environment": found_in,
        "missing": missing,
        "times": [asdict(line) for line in times],
        "accuracy": [asdict(line) for line in errors],
    }
    write_json(folder / "solvers.json", data)


def _summary(times: list[TimeLine], errors: list[AccuracyLine]) -> str:
    """A table with a row per method and peer: median ratios, and draws with a conflict."""
    sizes = sorted({line.num_tasks for line in times})
    first = times[0].family
    heads = ["method", "beside", *(f"{first}, T = {size}" for size in sizes)]
    heads += ["least ratio elsewhere", "conflicts, ours", "conflicts, theirs", "failed, theirs"]
    lines = []
    for method, peer in dict.fromkeys((line.method, line.peer) for line in times):
        mine = [line for line in times if (line.method, line.peer) == (method, peer)]
        ratios = {
            (line.family, line.num_tasks): line.found.ratio.median
            for line in mine
            if line.found.ratio is not None
        }
        here = [f"{ratios[first, n]:.3g}" if (first, n) in ratios else "–" for n in sizes]
        others = {key: ratio for key, ratio in ratios.items() if key[0] != first}
        worst = min(others, key=lambda key: others[key], default=None)
        least = f"{others[worst]:.3g} ({worst[0]}, {worst[1]})" if worst else "–"
        held = [
            [line for line in errors if (line.method, line.package) == (method, package)]
            for package in ("gradbalance", peer)
        ]
        conflicts = [str(sum(line.num_conflicts for line in found)) for found in held]
        failed = str(sum(line.num_failed for line in held[1]))
        lines.append([method, peer, *here, least, *conflicts, failed])
    ours = [line for line in errors if (line.method, line.package) == (lines[0][0], "gradbalance")]
    num_draws = sum(line.num_draws for line in ours)
    return (
        "Medians of theirs / ours (above 1, ours is faster), and on how many of "
        f"{num_draws} draws from all families a task's loss rises or the package failed.\n\n"
    ) + _table(heads, lines)


def _table(heads: list[str], lines: list[list[str]]) -> str:
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _small(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}"


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    return f"{spread.median:.3g} [{spread.low:.3g}, {spread.high:.3g}]"
