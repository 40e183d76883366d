"""One step on numbers alone: measured losses and Gramian to checked weights and a report."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradbalance.numerics import Status
from gradbalance.numerics.array import Array
from gradbalance.report import Report
from gradbalance.solvers import Problem, Solution, Solver

Scale = Literal["sum", "norm"]
ZeroGradients = Literal["absent", "strict"]
NonFinite = Literal["raise", "skip"]


@dataclass(frozen=True)
class Seen:
    """The losses of one step, and which tasks can take part.

    Attributes:
        tasks: all T tasks.
        names: the t tasks that have a loss this step.
        losses: [t].
        usable: which of them are finite, as indices.
        left_out: why each of the others is not among them.
    """

    tasks: tuple[str, ...]
    names: Sequence[str]
    losses: Array
    usable: Sequence[int]
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class Step:
    """What is to be written and remembered, for one group of parameters.

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


def see(
    losses: Mapping[str, float],
    squares: Array | None,
    *,
    tasks: tuple[str, ...],
    nonfinite: NonFinite,
) -> Seen:
    """Tell the tasks that are finite from those that are not.

    Args:
        losses: by task, of the t tasks that have one this step.
        squares: [t] the squared norms of their gradients, or None where they were not measured.
        tasks: all T tasks.
        nonfinite: see `Balancer`.

    Raises:
        ValueError: a loss or gradient is not finite under "raise".
    """
    usable = []
    left_out = {task: "absent" for task in tasks if task not in losses}
    for index, (task, loss) in enumerate(losses.items()):
        found = None
        if not np.isfinite(loss):
            found = f"the loss of task {task!r} is not finite; found {loss}"
        elif squares is not None and not np.isfinite(squares[index]):
            found = f"the gradient of task {task!r} is not finite (its loss is {loss:g})"
        if found is None:
            usable.append(index)
        elif nonfinite == "raise":
            raise ValueError(
                f'{found}. Balancer(..., nonfinite="skip") would leave such a task out of the step'
            )
        else:
            left_out[task] = "not finite"
    return Seen(tasks, list(losses), np.array(list(losses.values())), usable, left_out)


def solve_step(
    solver: Solver,
    seen: Seen,
    gram: Array | None,
    *,
    scale: Scale | None,
    zero_gradients: ZeroGradients,
) -> Step:
    """Apply the policy for zero gradients, solve for the rest, and report on all.

    Args:
        solver: its state is read, not changed.
        seen: the losses.
        gram: [t, t], or None where it was not measured.
        scale: see `Balancer`.
        zero_gradients: see `Balancer`.

    Raises:
        ValueError: what was measured is not a Gramian, or the solver refuses.
    """
    if not seen.usable:
        return Step(_report(solver, seen, gram, {}, None), {}, None, None)
    solved = list(seen.usable)
    if gram is not None and zero_gradients == "absent" and solver.weighs == "gradients":
        solved = [i for i in seen.usable if gram[i, i] > 0] or solved
    problem = Problem.of(
        None if gram is None else gram[np.ix_(solved, solved)],
        seen.losses[solved],
        names=[seen.names[i] for i in solved],
        tasks=seen.tasks,
    )
    solution = solver.solve(problem)
    values = _rescaled(_checked(solver, solution, problem), problem, solution, scale)
    weights = dict.fromkeys((seen.names[i] for i in seen.usable), 0.0)
    zeros = {task: "zero gradient" for task in weights if task not in problem.names}
    weights |= dict(zip(problem.names, values.tolist(), strict=True))
    report = _report(solver, seen, gram, weights, solution, zeros)
    return Step(report, weights, problem, solution)


def reuse_step(solver: Solver, seen: Seen, weights: Mapping[str, float]) -> Step:
    """A step with the weights of an earlier one; nothing is solved, and no state changes.

    Args:
        solver: whose weights they were.
        seen: the losses.
        weights: by task, for all that have a loss.
    """
    reused = {seen.names[i]: weights[seen.names[i]] for i in seen.usable}
    solution = None
    if reused:
        solution = Solution(np.array(list(reused.values())), Status.REUSED)
    return Step(_report(solver, seen, None, reused, solution), reused, None, None)


def skip_step(solver: Solver, seen: Seen) -> Step:
    """A step whose scaled gradients overflowed: the optimizer leaves it out, nothing is remembered.

    Args:
        solver: what would have solved.
        seen: the losses.
    """
    weights = {seen.names[i]: 0.0 for i in seen.usable}
    solution = Solution(np.zeros(len(weights)), Status.SKIPPED)
    return Step(_report(solver, seen, None, weights, solution), weights, None, None)


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
    seen: Seen,
    gram: Array | None,
    weights: Mapping[str, float],
    solution: Solution | None,
    zeros: Mapping[str, str] | None = None,
) -> Report:
    tasks = seen.tasks
    where = [tasks.index(task) for task in seen.names]
    all_losses = np.full(len(tasks), np.nan)
    all_losses[where] = seen.losses
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
        left_out={**seen.left_out, **(zeros or {})},
    )
