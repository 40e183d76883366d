"""Decide: turn a step's measurements into weights and a report, by solving, reusing or skipping."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gradbalance.gradients.source import Weights
from gradbalance.measured import Measured
from gradbalance.memory import Memory, Step
from gradbalance.numerics import Status, as_gramian, gramian_of_rows, relative_length
from gradbalance.numerics.array import Array
from gradbalance.policy import NonFinite, Policy
from gradbalance.report import Report, join_groups
from gradbalance.solvers import Problem, Solution, Solver
from gradbalance.solvers.solver import losses_in_range


@dataclass(frozen=True)
class Decision:
    """What a step writes to `.grad` and what is remembered of it.

    Attributes:
        report: for the user.
        steps: one per group; None for a group that no loss reaches.
        skipped: whether the optimizer will skip the step, so that nothing is remembered.
    """

    report: Report
    steps: tuple[Step | None, ...]
    skipped: bool = False

    @cached_property
    def weights(self) -> list[dict[str, float] | None]:
        """The weights that are written, by group."""
        return [None if step is None else step.weights for step in self.steps]

    @property
    def cancels(self) -> bool:
        """Whether the weighted gradients may cancel to an eighth of their total length, or less."""
        return any(step is not None and step.relative_length <= 1 / 8 for step in self.steps)


def solve(measured: Measured, memory: Memory, policy: Policy) -> Decision:
    """Solve for the weights; the solvers' states are read but not changed.

    Raises:
        ValueError: a loss or gradient is not finite under "raise", or a solver raises it.
    """
    usable, left_out = _usable(measured, measured.square_norms, policy.nonfinite)
    measures = any(gram is not None for gram in measured.grams)
    steps = [
        _solved(measured, solver, gram, usable, left_out, policy)
        if gram is not None or not measures
        else None
        for solver, gram in zip(memory.solvers, measured.grams, strict=True)
    ]
    return _decision(steps, memory)


def reuse(measured: Measured, memory: Memory, policy: Policy) -> Decision:
    """Reuse the weights of the last solved step.

    Raises:
        ValueError: a loss is not finite under "raise".
    """
    usable, left_out = _usable(measured, None, policy.nonfinite)
    steps = []
    for solver, known in zip(memory.solvers, memory.weights, strict=True):
        reused = {measured.names[i]: known[measured.names[i]] for i in usable}
        solution = Solution(np.array(list(reused.values())), Status.REUSED) if reused else None
        report = _report(measured, solver, None, reused, solution, left_out, policy)
        steps.append(Step(report, reused))
    return _decision(steps, memory)


def as_carried(
    decision: Decision, carried: Weights, measured: Measured, memory: Memory, policy: Policy
) -> Decision:
    """The decision with weights rounded as they act; skipped if the loss scale overflows one."""
    if carried is decision.weights or carried == decision.weights:
        return decision
    values = [w for of_group in carried for w in (of_group or {}).values()]
    if not np.isfinite(values).all():
        return skip(measured, memory, policy, written=math.inf)
    steps = [
        step if step is None or of_group is None else _with_weights(step, of_group)
        for step, of_group in zip(decision.steps, carried, strict=True)
    ]
    return _decision(steps, memory, skipped=decision.skipped)


def _with_weights(step: Step, weights: Mapping[str, float]) -> Step:
    values = np.array([weights.get(task, 0.0) for task in step.report.names])
    return replace(step, report=replace(step.report, weights=values), weights=dict(weights))


def skip(measured: Measured, memory: Memory, policy: Policy, *, written: float) -> Decision:
    """Skip a step of which nothing can be learned: it overflowed, or was multiplied by zero.

    Args:
        measured: the step's measurements.
        memory: the solvers.
        policy: the options.
        written: the weight that is written, so that a loss scaler sees the overflow.

    Raises:
        ValueError: a loss is not finite under "raise".
    """
    usable, left_out = _usable(measured, None, policy.nonfinite)
    solution = Solution(np.zeros(len(usable)), Status.SKIPPED)
    weights = {measured.names[i]: written for i in usable}
    reports = [_report(measured, s, None, {}, solution, left_out, policy) for s in memory.solvers]
    return _decision([Step(report, weights) for report in reports], memory, skipped=True)


def _decision(steps: Sequence[Step | None], memory: Memory, *, skipped: bool = False) -> Decision:
    reports = [step.report for step in steps if step is not None]
    if memory.groups:
        names = [n for n, step in zip(memory.groups, steps, strict=True) if step is not None]
        return Decision(join_groups(dict(zip(names, reports, strict=True))), tuple(steps), skipped)
    return Decision(reports[0], tuple(steps), skipped)


def _usable(
    measured: Measured, squares: Array | None, nonfinite: NonFinite
) -> tuple[list[int], dict[str, str]]:
    """The indices of the tasks that are finite, and why each other task is left out."""
    usable = []
    left_out = {task: "absent" for task in measured.tasks if task not in measured.names}
    values = measured.losses.tolist() + ([] if squares is None else squares.tolist())
    if all(map(math.isfinite, values)):
        return list(range(len(measured.names))), left_out
    for index, (task, loss) in enumerate(zip(measured.names, measured.losses, strict=True)):
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
    return usable, left_out


def _solved(
    measured: Measured,
    solver: Solver,
    gram: Array | None,
    usable: list[int],
    left_out: Mapping[str, str],
    policy: Policy,
) -> Step:
    """Apply the options for zero losses and gradients, solve for the rest, and report on all."""
    if not usable:
        return Step(_report(measured, solver, gram, {}, None, left_out, policy), {})
    losses = losses_in_range(measured.losses)
    if not solver.takes_zero_losses and not losses[usable].all():
        zeros = [measured.names[i] for i in usable if losses[i] == 0]
        left_out = {**left_out, **dict.fromkeys(zeros, "zero loss")}
        usable = [i for i in usable if losses[i] != 0]
        return _solved(measured, solver, gram, usable, left_out, policy)
    solved = usable
    if gram is not None and policy.zero_gradients == "absent" and solver.weighs == "gradients":
        solved = [i for i in usable if gram[i, i] > 0] or usable
    weights = dict.fromkeys((measured.names[i] for i in usable), 0.0)
    zeros = [measured.names[i] for i in usable if i not in solved]
    left_out = {**left_out, **dict.fromkeys(zeros, "zero gradient")}
    problem = _problem(measured, losses, gram, solved)
    solution = _checked(solver, solver.solve(problem), problem)
    length = 0.0 if problem.gram is None else relative_length(problem.gram, solution.weights)
    solution = _settled(solution, length, solver, problem)
    values = _rescaled(solution, problem, policy)
    weights |= dict(zip(problem.names, values.tolist(), strict=True))
    report = _report(measured, solver, gram, weights, solution, left_out, policy)
    return Step(report, weights, problem, solution, length)


def _problem(measured: Measured, losses: Array, gram: Array | None, solved: list[int]) -> Problem:
    """The problem of the tasks with these indices; a Gramian computed from rows needs no check."""
    names = measured.names
    if len(solved) < len(names):
        names, losses = tuple(names[i] for i in solved), losses[solved]
        gram = None if gram is None else gram[np.ix_(solved, solved)]
    checked = as_gramian if measured.needs_check else gramian_of_rows
    known = None if gram is None else checked(gram)
    return Problem(names, losses, known, measured.tasks, measured.resolution)


def _checked(solver: Solver, solution: Solution, problem: Problem) -> Solution:
    weights = np.asarray(solution.weights, dtype=np.float64)
    if weights.shape != (len(problem.names),) or not np.isfinite(weights).all():
        raise ValueError(
            f"{solver.name} must return one finite weight for each of the "
            f"{len(problem.names)} tasks; found {solution.weights!r}"
        )
    return solution if weights is solution.weights else replace(solution, weights=weights)


def _settled(solution: Solution, length: float, solver: Solver, problem: Problem) -> Solution:
    """Mark the solution as stationary if its direction is below the rounding error; any method.

    The weighted gradients are then scaled down to at most the total length of the plain sum's,
    because what is left of them is noise. Weights of whole losses stay, for the heads' sake.
    """
    gram, weights = problem.gram, solution.weights
    if gram is None or solution.status is Status.STATIONARY:
        return solution
    if length > problem.resolution:
        return solution
    norms = np.sqrt(np.diagonal(gram))
    if solver.weighs == "gradients":
        weights = weights * min(1.0, norms.sum() / (np.abs(weights) @ norms or 1.0))
    return replace(solution, weights=weights, status=Status.STATIONARY)


def _rescaled(solution: Solution, problem: Problem, policy: Policy) -> Array:
    """The weights at the common scale; unchanged where there is only noise to rescale.

    Under "sum", ill-posed weights stay as their solver bounded them.
    """
    weights, status = solution.weights, solution.status
    if policy.scale == "sum" and status is not Status.ILL_POSED:
        total = float(np.abs(weights).sum())
        return weights * (len(weights) / total) if total > 0 else weights
    if policy.scale == "norm" and status is not Status.STATIONARY:
        gram = problem.gramian
        length = float(weights @ gram @ weights)
        if length > 0:
            return weights * math.sqrt(max(float(gram.sum()), 0.0) / length)
    return weights


def _report(
    measured: Measured,
    solver: Solver,
    gram: Array | None,
    weights: Mapping[str, float],
    solution: Solution | None,
    left_out: Mapping[str, str],
    policy: Policy,
) -> Report:
    tasks, losses = measured.tasks, measured.losses
    if measured.names != tasks:
        where = [tasks.index(task) for task in measured.names]
        losses = np.full(len(tasks), np.nan)
        losses[where] = measured.losses
        if gram is not None:
            known, gram = gram, np.full((len(tasks), len(tasks)), np.nan)
            gram[np.ix_(where, where)] = known
    return Report(
        names=tasks,
        losses=losses,
        weights=np.array([weights.get(task, 0.0) for task in tasks]),
        gram=gram,
        solver=solver.name,
        status=None if solution is None else solution.status,
        num_steps=0 if solution is None else solution.num_steps,
        certificate=None if solution is None else solution.certificate,
        left_out=left_out,
        resolution=measured.resolution,
        measures_gramian=policy.measures_gramian,
    )
