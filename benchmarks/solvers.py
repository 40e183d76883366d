"""Claim: on every family of gradients the solvers keep what their methods promise, and fast.

Method: every solver on the Gramian beside its counterpart in TorchJD 0.18, in cvxpy (Clarabel) and
in quadprog, on one thread, in one process. Times are of single calls on one Gramian after another,
measured alternately (ours, theirs, ours, theirs, …), so the ratios are of neighbours; medians with
quartiles; the number of calls is calibrated to a budget of time. Each timed call follows an untimed
one of the same solver on the draw before, since after a slow one of the other every cache is cold.
Accuracy is measured on all families of `gradbalance/testing/families.py` by the functions of
`benchmarks/accuracy.py`, which know the gradients and no package. A call that raises, or returns
what is not finite, has failed.

    python -m benchmarks.solvers            # all, into benchmarks/solvers.{md,json}
    python -m benchmarks.solvers --quick    # a smoke run
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

import gradbalance as gb
from benchmarks import accuracy, peers, report, timing
from benchmarks.accuracy import Answer, Array, Measure
from benchmarks.peers import Draw, Peer
from gradbalance.testing import FAMILIES

SIZES = (2, 4, 8, 16, 32, 64, 128)
TIMED_FAMILIES = ("iid", "correlated", "spread_iid", "condition_1e6", "rank_deficient")
ACCURACY_SIZES = (3, 8, 32)
NUM_TIMED = 8  # draws, one after the other
CONFLICT = -1e-7  # a cosine below this is a conflict; one nearer to 0 may be rounding


@dataclass(frozen=True)
class Plan:
    """The extent of a run: families, numbers of tasks, seconds per pair, and number of draws."""

    timed: tuple[str, ...] = TIMED_FAMILIES
    timed_sizes: tuple[int, ...] = SIZES
    budget: float = 0.4
    measured: tuple[str, ...] = tuple(FAMILIES)
    measured_sizes: tuple[int, ...] = ACCURACY_SIZES
    num_draws: int = 3


QUICK = Plan(("iid",), (2, 8), 0.01, ("iid", "opposed"), (3,), 1)


@dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        ours: builds our solver.
        peers: its counterparts in other packages.
        measure: the distance of an answer from the method's definition; None if it is random.
    """

    ours: Callable[[], gb.Solver]
    peers: tuple[Peer, ...]
    measure: Measure | None = None


def _singles(num_tasks: int) -> Array:
    return np.eye(num_tasks) / num_tasks


def _mean(num_tasks: int) -> Array:
    return np.full((1, num_tasks), 1 / num_tasks)


ROWS = {
    "MGDA": Row(
        gb.MGDA,
        (
            peers.torchjd_weighting("MGDAWeighting"),
            peers.quadprog_hull(),
            peers.clarabel(peers.hull),
        ),
        accuracy.hull_gap,
    ),
    "UPGrad": Row(
        gb.UPGrad,
        (
            peers.torchjd_weighting("UPGradWeighting", "qpsolvers", "quadprog"),
            peers.quadprog_cone(_singles),
        ),
        accuracy.mean_of_projected,
    ),
    "DualProj": Row(
        gb.DualProj,
        (
            peers.torchjd_weighting("DualProjWeighting", "qpsolvers", "quadprog"),
            peers.quadprog_cone(_mean),
        ),
        accuracy.projected_mean,
    ),
    "CAGrad": Row(
        gb.CAGrad,
        (peers.torchjd_weighting("CAGradWeighting", "cvxpy", "clarabel", c=0.5),),
        accuracy.ball_gap(0.5),
    ),
    "NashMTL": Row(
        gb.NashMTL,
        (peers.torchjd_nash(), peers.clarabel(peers.bargaining)),
        accuracy.unequal_products(1.0),
    ),
    "FairGrad, α = 2": Row(
        lambda: gb.FairGrad(alpha=2.0),
        (
            peers.torchjd_weighting("FairGradWeighting", alpha=2.0),
            peers.clarabel(peers.square_root_fairness),
        ),
        accuracy.unequal_products(0.5),
    ),
    "PCGrad": Row(gb.PCGrad, (peers.torchjd_weighting("PCGradWeighting"),)),
    "GradVac": Row(gb.GradVac, (peers.torchjd_weighting("GradVacWeighting", beta=0.01),)),
    "AlignedMTL": Row(
        gb.AlignedMTL,
        (peers.torchjd_weighting("AlignedMTLWeighting"),),
        accuracy.aligned_distance,
    ),
    "IMTLG": Row(gb.IMTLG, (peers.torchjd_weighting("IMTLGWeighting"),), accuracy.unequal_cosines),
    "ConFIG": Row(gb.ConFIG, (peers.torchjd_aggregator("ConFIG"),), accuracy.unequal_cosines),
}


def draws(family: str, num_tasks: int, count: int) -> list[Draw]:
    """The same draws for every solver."""
    seeds = [np.random.default_rng([seed, num_tasks]) for seed in range(count)]
    return [Draw(FAMILIES[family](rng, num_tasks)) for rng in seeds]


def time_row(label: str, row: Row, plan: Plan) -> Iterator[report.TimeLine]:
    """Time our solver against each peer, for every family and number of tasks."""
    for family in plan.timed:
        for num_tasks in plan.timed_sizes:
            drawn = draws(family, num_tasks, NUM_TIMED)
            solver = row.ours()
            ours: list[timing.Call] = [
                partial(solver.solve, gb.Problem.of(draw.gram)) for draw in drawn
            ]
            for peer in row.peers:
                if peer.missing:
                    continue
                solve = peer.make(num_tasks)
                theirs: list[timing.Call] = [partial(solve, draw) for draw in drawn]
                found = timing.compare(ours, theirs, plan.budget)
                yield report.TimeLine(label, family, num_tasks, peer.label, found)


def measure_row(label: str, row: Row, plan: Plan) -> Iterator[report.AccuracyLine]:
    """Measure our solver and each peer on the same draws, with a new solver for every draw."""

    def ours(num_tasks: int) -> peers.Solve:
        solver = row.ours()  # a new solver, so its state is new, too
        return lambda draw: solver.solve(gb.Problem.of(draw.gram)).weights

    solvers = (Peer("gradbalance", (), ours), *row.peers)
    for num_tasks in plan.measured_sizes:
        drawn = [
            draw for family in plan.measured for draw in draws(family, num_tasks, plan.num_draws)
        ]
        for peer in solvers:
            if peer.missing:
                continue
            answers = [_answer(peer, num_tasks, draw) for draw in drawn]
            usable = [(d, a) for d, a in zip(drawn, answers, strict=True) if a is not None]
            cosines = [float(accuracy.cosines(draw.jac, answer).min()) for draw, answer in usable]
            errors = []
            if row.measure is not None:
                errors = [row.measure(draw.jac, answer) for draw, answer in usable]
            yield report.AccuracyLine.of(
                label, num_tasks, peer.label, len(drawn), cosines, errors, CONFLICT
            )


def _answer(peer: Peer, num_tasks: int, draw: Draw) -> Answer | None:
    try:
        output = np.asarray(peer.make(num_tasks)(draw), dtype=np.float64)
    except Exception:  # whatever a package raises counts as its failure
        return None
    if not np.isfinite(output).all():
        return None
    if peer.gives == "direction":
        return Answer.of_direction(output)
    return Answer.of_weights(draw.jac, output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run, not to be quoted")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    parser.add_argument("--only", nargs="*", choices=list(ROWS), help="these methods")
    options = parser.parse_args()
    torch.set_num_threads(1)
    plan = QUICK if options.quick else Plan()
    times: list[report.TimeLine] = []
    errors: list[report.AccuracyLine] = []
    for label in options.only or list(ROWS):
        start = time.perf_counter()
        times += time_row(label, ROWS[label], plan)
        errors += measure_row(label, ROWS[label], plan)
        print(f"{label}: {time.perf_counter() - start:.0f} s", flush=True)
    missing = sorted({m for row in ROWS.values() for peer in row.peers for m in peer.missing})
    if missing:
        print(f"not installed, so left out: {', '.join(missing)}")
    report.write(options.out, __doc__, times, errors, missing)
    print(f"wrote {options.out / 'solvers.md'} and {options.out / 'solvers.json'}")


if __name__ == "__main__":
    main()
