"""Solve the recorded steps of a run again, with other solvers."""

import copy
from collections.abc import Mapping, Sequence

import numpy as np

from gradbalance.decision import solve
from gradbalance.gradients import SharedParameters
from gradbalance.measured import Measured
from gradbalance.memory import Memory
from gradbalance.numerics import Status
from gradbalance.numerics.array import Array
from gradbalance.policy import Scale, checked_policy
from gradbalance.replay.replay import Replay
from gradbalance.report import Report
from gradbalance.solvers import AfterStep, EndEpoch, Solver, listeners

_RISES = -1e-6  # a cosine below this is more than the rounding error of float32 gradients


def replay(
    reports: Sequence[Report | None],
    steps: Array,
    solvers: Sequence[Solver] | Mapping[str, Solver],
    *,
    scale: Scale | None,
    epoch_steps: int | None,
) -> Replay:
    """Replay reports with other solvers; see `History.replay`.

    Args:
        reports: the reports of a run, or of one group; None where no loss reached the group.
        steps: [steps] the step numbers.
        solvers: a sequence of solvers, or a mapping from names to solvers.
        scale: how weights are rescaled, as in a `Balancer`.
        epoch_steps: the number of steps in an epoch.

    Raises:
        ValueError: an argument cannot be used, or no report has a Gramian.
    """
    named = named_solvers(solvers)
    looks = [None if report is None else _look(report) for report in reports]
    num_measured = sum(look is not None for look in looks)
    if not num_measured:
        raise ValueError(
            "no report has a Gramian, so there is nothing to solve: take the steps with "
            "gb.Balancer(solver, gb.SharedParameters()), or append now and then what the "
            "measure(losses) of such a Balancer returns"
        )
    if epoch_steps is not None and epoch_steps < 1:
        raise ValueError(f"epoch_steps must be at least 1, or None; found {epoch_steps}")
    names = next(report.names for report in reports if report is not None)
    found = {n: _replayed(solver, looks, steps, scale, epoch_steps) for n, solver in named.items()}
    columns = {n: np.array([_angles(report) for report in r]) for n, (r, _) in found.items()}
    weights = {
        name: np.array([np.full(len(names), np.nan) if r is None else _weights(r) for r in solved])
        for name, (solved, _) in found.items()
    }
    worst, rises, cosine, length = (
        {name: values[:, i] for name, values in columns.items()} for i in range(4)
    )
    status = {n: tuple(None if r is None else r.status for r in s) for n, (s, _) in found.items()}
    remarks = {name: remark for name, (_, remark) in found.items() if remark}
    return Replay(
        names, steps, weights, worst, rises, cosine, length, status, num_measured, remarks
    )


def named_solvers(solvers: Sequence[Solver] | Mapping[str, Solver]) -> dict[str, Solver]:
    """The solvers by name: the name of the class, or the repr if that is not unique, or numbered.

    Raises:
        ValueError: there are none, or one is not a solver.
    """
    if isinstance(solvers, Mapping):
        named = dict(solvers)
    elif isinstance(solvers, Sequence):
        classes = [type(solver).__name__ for solver in solvers]
        named = {}
        for solver, name in zip(solvers, classes, strict=True):
            label = name if classes.count(name) == 1 else repr(solver)
            label += f" ({number})" if (number := 1 + _count(named, label)) > 1 else ""
            named[label] = solver
    else:
        raise ValueError(f"solvers must be a list such as [MGDA(), UPGrad()]; found {solvers!r}")
    wrong = [solver for solver in named.values() if not isinstance(solver, Solver)]
    if wrong or not named:
        raise ValueError(
            f"solvers must be Solvers such as MGDA(); found {wrong[0] if wrong else 'none'!r}"
        )
    return named


def _count(named: Mapping[str, Solver], label: str) -> int:
    return sum(name == label or name.startswith(f"{label} (") for name in named)


def _replayed(
    solver: Solver,
    looks: Sequence[Measured | None],
    steps: Array,
    scale: Scale | None,
    epoch_steps: int | None,
) -> tuple[list[Report | None], str]:
    """The reports of a copy of a solver, and why some are missing."""
    policy = checked_policy(
        solver,
        SharedParameters(),
        heads=None,
        scale=scale,
        zero_gradients="absent",
        nonfinite="skip",
        every=1,
        distributed=False,
    )
    if any(True for _ in listeners(solver, AfterStep)):
        return [None] * len(looks), "needs the losses after each step, which a recording lacks"
    if epoch_steps is None and any(True for _ in listeners(solver, EndEpoch)):
        return [None] * len(looks), "needs to know where epochs end: replay(..., epoch_steps=...)"
    memory = Memory(copy.deepcopy(solver), (), every=1)
    reports: list[Report | None] = []
    failures: list[str] = []
    epoch_has_steps = False
    for step, look in zip(steps.astype(int).tolist(), looks, strict=True):
        report = None
        if look is not None:
            try:
                decision = solve(look, memory, policy)
            except ValueError as error:
                failures.append(f"step {step}, {error}")
            else:
                memory.commit(decision.steps)
                epoch_has_steps |= decision.steps[0] is not None
                report = None if decision.report.status is None else decision.report
        reports.append(report)
        if epoch_steps is not None and (step + 1) % epoch_steps == 0 and epoch_has_steps:
            memory.end_epoch()
            epoch_has_steps = False
    if not failures:
        return reports, ""
    return reports, f"{len(failures)} of {len(looks)} steps not solved; first {failures[0]}"


def _look(report: Report) -> Measured | None:
    """The measurements of the step, or None without a Gramian."""
    present = [i for i, n in enumerate(report.names) if report.left_out.get(n) != "absent"]
    if report.gram is None or not present:
        return None
    return Measured(
        tasks=report.names,
        names=tuple(report.names[i] for i in present),
        losses=report.losses[present],
        grams=(report.gram[np.ix_(present, present)],),
        factor=1.0,
        resolution=report.resolution,
    )


def _weights(report: Report) -> Array:
    """[T] the weights; NaN for a task that was absent."""
    absent = [report.left_out.get(name) == "absent" for name in report.names]
    return np.where(absent, np.nan, report.weights)


def _angles(report: Report | None) -> tuple[float, float, float, float]:
    """The worst task's cosine, whether a loss rises, the cosine with the sum, the relative length.

    Computed from unit vectors, so that squares stay within float64 for gradients of any size.
    """
    unknown = (np.nan, np.nan, np.nan, np.nan)
    if report is None or report.cosines is None or report.norms is None:
        return unknown
    used = np.isfinite(report.norms) & np.isfinite(report.losses) & (report.norms > 0)
    if report.status is Status.STATIONARY or not used.any():
        return unknown
    cosines, norms = report.cosines[np.ix_(used, used)], report.norms[used]
    weighted = report.weights[used] * norms
    largest, largest_norm = np.abs(weighted).max(), norms.max()
    if largest == 0:
        return unknown
    parts, plain = weighted / largest, norms / largest_norm
    length, plain_length = (np.sqrt(max(x @ cosines @ x, 0.0)) for x in (parts, plain))
    if length <= report.resolution * np.abs(parts).sum():
        return unknown
    worst = float((cosines @ parts).min() / length)
    rises = float(worst < _RISES)
    if plain_length <= report.resolution * plain.sum():  # the plain sum has no direction
        return worst, rises, np.nan, np.nan
    cosine = float(parts @ cosines @ plain / length / plain_length)
    return worst, rises, cosine, float(length / plain_length * (largest / largest_norm))
