"""One step on numbers alone: measured losses and Gramian to checked weights and a report."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradbalance.numerics import Status
from gradbalance.report import Array, Report
from gradbalance.solvers import Problem, Solution, Solver

Scale = Literal["sum", "norm"]
ZeroGradients = Literal["absent", "strict"]
NonFinite = Literal["raise", "skip"]


@dataclass(frozen=True)
class Step:
    """What is to be written and remembered.

    Attributes:
        report: for the user.
        weights: of the tasks that are to be written; those left out are not in it.
        problem: what was solved; None where nothing was.
        solution: the solver's answer to it.
    """

    report: Report
    weights: dict[str, float]
    problem: Problem | None
    solution: Solution | None


def solve_step(
    solver: Solver,
    present: Sequence[str],
    losses: Array,
    gram: Array | None,
    *,
    tasks: tuple[str, ...],
    scale: Scale | None,
    zero_gradients: ZeroGradients,
    nonfinite: NonFinite,
) -> Step:
    """Apply the policies for odd tasks, solve for the rest, and report on all.

    Args:
        solver: its state is read, not changed.
        present: the t tasks that have a loss this step.
        losses: [t].
        gram: [t, t], or None where it was not measured.
        tasks: all T tasks.
        scale: see `Balancer`.
        zero_gradients: see `Balancer`.
        nonfinite: see `Balancer`.

    Raises:
        ValueError: a loss or gradient is not finite under "raise", or the solver refuses.
    """
    left_out = {task: "absent" for task in tasks if task not in present}
    usable = _finite_tasks(present, losses, gram, left_out, nonfinite)
    if not usable:
        report = _report(solver, tasks, present, losses, gram, {}, None, left_out)
        return Step(report, {}, None, None)
    solved = usable
    if gram is not None and zero_gradients == "absent" and solver.weighs == "gradients":
        solved = [i for i in usable if gram[i, i] > 0] or usable
    problem = Problem(
        names=tuple(present[i] for i in solved),
        losses=losses[solved],
        gram=None if gram is None else gram[np.ix_(solved, solved)],
        tasks=tasks,
    )
    solution = solver.solve(problem)
    values = _rescaled(_checked(solver, solution, problem), problem, solution, scale)
    weights = dict.fromkeys((present[i] for i in usable), 0.0)
    for task in weights:
        if task not in problem.names:
            left_out[task] = "zero gradient"
    weights |= dict(zip(problem.names, values.tolist(), strict=True))
    report = _report(solver, tasks, present, losses, gram, weights, solution, left_out)
    return Step(report, weights, problem, solution)


def reuse_step(
    solver: Solver,
    present: Sequence[str],
    losses: Array,
    weights: Mapping[str, float],
    *,
    tasks: tuple[str, ...],
    nonfinite: NonFinite,
) -> Step:
    """A step with the weights of an earlier one; nothing is solved, and no state changes.

    Args:
        solver: whose weights they were.
        present: the t tasks that have a loss this step.
        losses: [t].
        weights: by task, for all that are present.
        tasks: all T tasks.
        nonfinite: see `Balancer`.

    Raises:
        ValueError: a loss is not finite under "raise".
    """
    left_out = {task: "absent" for task in tasks if task not in present}
    usable = _finite_tasks(present, losses, None, left_out, nonfinite)
    reused = {present[i]: weights[present[i]] for i in usable}
    solution = None
    if reused:
        solution = Solution(np.array(list(reused.values())), Status.REUSED)
    report = _report(solver, tasks, present, losses, None, reused, solution, left_out)
    return Step(report, reused, None, None)


def _finite_tasks(
    present: Sequence[str],
    losses: Array,
    gram: Array | None,
    left_out: dict[str, str],
    nonfinite: NonFinite,
) -> list[int]:
    usable = []
    for index, task in enumerate(present):
        found = None
        if not np.isfinite(losses[index]):
            found = f"the loss of task {task!r} is not finite; found {losses[index]}"
        elif gram is not None and not np.isfinite(gram[index, index]):
            found = f"the gradient of task {task!r} is not finite (its loss is {losses[index]:g})"
        if found is None:
            usable.append(index)
        elif nonfinite == "raise":
            raise ValueError(
                f'{found}. Balancer(..., nonfinite="skip") would leave such a task out of the step'
            )
        else:
            left_out[task] = "not finite"
    return usable


def _checked(solver: Solver, solution: Solution, problem: Problem) -> Array:
    weights = np.asarray(solution.weights, dtype=np.float64)
    if weights.shape != (len(problem.names),) or not np.isfinite(weights).all():
        raise ValueError(
            f"{type(solver).__name__} must return one finite weight for each of the "
            f"{len(problem.names)} tasks; found {solution.weights!r}"
        )
    return weights


def _rescaled(weights: Array, problem: Problem, solution: Solution, scale: Scale | None) -> Array:
    """Weights at the common scale; as they are where the direction has no length to rescale."""
    if scale == "sum" and weights.sum() > 0:
        return weights * (len(weights) / float(weights.sum()))
    if scale == "norm" and solution.status is not Status.STATIONARY:
        gram = problem.gramian
        length = float(weights @ gram @ weights)
        if length > 0:
            return weights * math.sqrt(max(float(gram.sum()), 0.0) / length)
    return weights


def _report(
    solver: Solver,
    tasks: tuple[str, ...],
    present: Sequence[str],
    losses: Array,
    gram: Array | None,
    weights: dict[str, float],
    solution: Solution | None,
    left_out: dict[str, str],
) -> Report:
    where = [tasks.index(task) for task in present]
    all_losses = np.full(len(tasks), np.nan)
    all_losses[where] = losses
    all_gram = None
    if gram is not None:
        all_gram = np.full((len(tasks), len(tasks)), np.nan)
        all_gram[np.ix_(where, where)] = gram
    return Report(
        names=tasks,
        losses=all_losses,
        weights=np.array([weights.get(task, 0.0) for task in tasks]),
        gram=all_gram,
        solver=type(solver).__name__,
        status=None if solution is None else solution.status,
        num_steps=0 if solution is None else solution.num_steps,
        certificate=None if solution is None else solution.certificate,
        left_out=left_out,
    )
