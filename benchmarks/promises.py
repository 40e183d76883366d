"""The precisions at which each method keeps its promise that no loss rises.

Designed gradients near stationary points (`near_stationary.py`), T from 2 to 16 and P from 2 to
1,000, at distances of 1e-9 to 1e-1 from one, half of them with norms spread over six orders of
magnitude; through losses with these gradients over parameters (that all tasks reach, or one does
not), micro-batches and a representation, and through a small network whose errors are of the same
families. Every method sees the same draws in a precision. A step's status says whether the
gradients cancel to rounding (stationary), or the method has no usable answer (excused); of all the
others, the table has the worst cosine between a task's gradient, as it was measured, and what was
written, over all tasks and draws, and the largest difference between `report.descent` and what was
written does, over the lengths of both.

`measure=` is not among the ways: its directions are sums that a backward takes in the precision of
the losses and the parameters, as those of `sketch=` and of reused weights are, so that what is left
where gradients nearly cancel is rounding.

A promise is broken where that cosine is below minus what rounding does to `.grad`: 1e-7 in float64,
whose Gramians are rounded; 1e-6 in float32, as sums taken in it may lose three bits; one unit of
bfloat16.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import gradbalance as gb
from benchmarks.environment import environment, heading
from benchmarks.near_stationary import PRECISIONS, WAYS, Draw, Outcome, Precision
from benchmarks.results import write_json

NUM_DRAWS = 300
_STATUS = gb.Status


@dataclass(frozen=True)
class Promise:
    """A method, and when its documentation promises that no loss rises.

    Attributes:
        make: builds the solver.
        excused: the statuses by which a step may report that a loss can rise.
        num_tasks: the only number of tasks with the promise; None for any number.
        of_mean: whether the promise is only that the mean loss does not rise.
    """

    make: Callable[[], gb.Solver]
    excused: tuple[gb.Status, ...] = ()
    num_tasks: int | None = None
    of_mean: bool = False

    def is_excused(self, outcome: Outcome) -> bool:
        """Whether nothing is promised for this step; running out of iterations is no excuse."""
        return outcome.report.status in (_STATUS.STATIONARY, *self.excused)

    def cosine(self, outcome: Outcome) -> float:
        """The cosine that must not be negative."""
        return outcome.mean_cosine if self.of_mean else outcome.cosine


PROMISES = {
    "MGDA": Promise(gb.MGDA),
    "MGDA, l2": Promise(lambda: gb.MGDA(normalization="l2")),
    "UPGrad": Promise(gb.UPGrad),
    "DualProj": Promise(gb.DualProj),
    "CAGrad, c = 1": Promise(lambda: gb.CAGrad(c=1.0)),
    "CAGrad, c = 0.5: the mean": Promise(lambda: gb.CAGrad(c=0.5), of_mean=True),
    "NashMTL": Promise(gb.NashMTL),
    "FairGrad, alpha = 2": Promise(lambda: gb.FairGrad(alpha=2.0)),
    "ConFIG": Promise(gb.ConFIG, (_STATUS.ILL_POSED,)),
    "IMTLG": Promise(gb.IMTLG, (_STATUS.ILL_POSED, _STATUS.ASCENT)),
    "PCGrad, two tasks": Promise(gb.PCGrad, num_tasks=2),
}


def allowed(precision: Precision) -> float:
    """How far below zero rounding may bring a cosine."""
    unit = torch.finfo(precision.dtype).eps
    return max(unit, 1e-6 if unit > 1e-10 else 1e-7)


@dataclass
class Cell:
    """The outcomes of a method's draws in one precision."""

    num_draws: int = 0
    num_stationary: int = 0
    num_excused: int = 0
    num_broken: int = 0
    worst_cosine: float = 1.0
    largest_difference: float = 0.0

    def add(self, promise: Promise, outcome: Outcome, precision: Precision) -> None:
        self.num_draws += 1
        if promise.is_excused(outcome):
            stationary = outcome.report.status is _STATUS.STATIONARY
            self.num_stationary += stationary
            self.num_excused += not stationary
            return
        cosine = promise.cosine(outcome)
        self.num_broken += cosine < -allowed(precision)
        self.worst_cosine = min(self.worst_cosine, cosine)
        self.largest_difference = max(self.largest_difference, outcome.difference)


def measure(promise: Promise, precision: Precision, num_draws: int) -> Cell:
    """Take draws 0, 1, … through all ways except `measure=`, in turn."""
    cell = Cell()
    ways = [way for way in WAYS if way != "measure"]
    for seed in range(num_draws):
        draw = Draw(seed, num_tasks=promise.num_tasks, way=ways[seed % len(ways)])
        cell.add(promise, draw.step(promise.make(), precision), precision)
    return cell


def as_markdown(result: dict[str, Any]) -> str:
    lines = heading("Promises, by precision", __doc__, result["environment"])
    lines += [
        f"- draws: {result['num_draws']} in each line",
        "",
        "| method | precision | stationary | excused | others | of them broken | worst cosine "
        "| descent differs by |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for method, by_precision in result["found"].items():
        for precision, found in by_precision.items():
            cell = Cell(**found)
            others = cell.num_draws - cell.num_stationary - cell.num_excused
            lines.append(
                f"| {method} | {precision} | {cell.num_stationary} | {cell.num_excused} | {others} "
                f"| {cell.num_broken} | {cell.worst_cosine:.1e} | {cell.largest_difference:.0e} |"
            )
    return "\n".join(lines) + "\n"


def in_short(result: dict[str, Any]) -> list[str]:
    """The rows of the table in docs/notation.md: all methods together, by precision."""
    lines = []
    for name in PRECISIONS:
        cells = [Cell(**by_precision[name]) for by_precision in result["found"].values()]
        promised = [c.num_draws - c.num_stationary - c.num_excused for c in cells]
        lines.append(
            f"| {name} | {sum(c.num_draws for c in cells)} "
            f"| {sum(c.num_stationary for c in cells)} | {sum(promised)} "
            f"| {sum(c.num_broken for c in cells)} | {min(c.worst_cosine for c in cells):.0e} "
            f"| {max(c.largest_difference for c in cells):.0e} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--draws", type=int, default=NUM_DRAWS, help="for each method")
    parser.add_argument("--only", nargs="*", choices=list(PROMISES), default=list(PROMISES))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for method in options.only:
        found[method] = {
            name: asdict(measure(PROMISES[method], precision, options.draws))
            for name, precision in PRECISIONS.items()
        }
        print(f"{method}: done", flush=True)
    result = {"environment": environment(), "num_draws": options.draws, "found": found}
    write_json(options.out / "promises.json", result)
    (options.out / "promises.md").write_text(as_markdown(result))


if __name__ == "__main__":
    main()
