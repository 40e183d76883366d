"""Check options with one number per task, and the losses that a method can handle."""

from collections.abc import Mapping, Sequence

import numpy as np

from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import Interval, is_number
from gradbalance.solvers.solver import Problem

PerTask = Mapping[str, float] | Sequence[float]


def check_per_task(
    argument: str, given: PerTask | None, interval: Interval = "(-inf, inf)"
) -> None:
    """Raise a ValueError unless an option is None, or one number in an interval per task."""
    if given is None:
        return
    numbers = _numbers(given)
    if not numbers or not all(is_number(number, interval) for number in numbers):
        raise ValueError(f"{argument} must be numbers in {interval}, one a task; found {given!r}")


def per_task(argument: str, given: PerTask | None, problem: Problem, default: float) -> Array:
    """The numbers [t] of an option for the tasks that take part in this step.

    Raises:
        ValueError: they do not fit the tasks of this run.
    """
    if given is None:
        return np.full(len(problem.names), default)
    if not isinstance(given, Mapping):
        if len(given) != len(problem.tasks):
            raise ValueError(
                f"{argument} must have one number a task; found {len(given)} "
                f"for the tasks {list(problem.tasks)}"
            )
        given = dict(zip(problem.tasks, given, strict=True))
    elif given.keys() != set(problem.tasks):
        raise ValueError(
            f"{argument} must name every task; found {list(given)} "
            f"for the tasks {list(problem.tasks)}"
        )
    return np.array([given[name] for name in problem.names], dtype=np.float64)


def position_of(argument: str, task: str | None, problem: Problem) -> int | None:
    """The index of a task among those of this step; None if it is absent.

    Args:
        argument: the name of the option.
        task: the name of the task; None for the first task of the run.
        problem: the step.

    Raises:
        ValueError: there is no such task.
    """
    if task is None:
        task = problem.tasks[0]
    if task not in problem.tasks:
        raise ValueError(f"{argument} must be one of {list(problem.tasks)}; found {task!r}")
    return problem.names.index(task) if task in problem.names else None


def check_preferences(preferences: PerTask | None, *, positive: bool) -> None:
    """Raise a ValueError for preferences that are invalid for any tasks.

    Args:
        preferences: as the user passed them.
        positive: whether zero is invalid too.
    """
    check_per_task("preferences", preferences, "(0, inf)" if positive else "[0, inf)")
    if preferences is not None and not any(_numbers(preferences)):
        raise ValueError(f"preferences must not be zero for all tasks; found {preferences!r}")


def preferences_of(preferences: PerTask | None, problem: Problem) -> Array:
    """The preferences [t] of the tasks that take part in this step; ones if there are none."""
    return per_task("preferences", preferences, problem, 1.0)


def shares_of(preferences: PerTask | None, problem: Problem) -> Array:
    """The preferences [t] divided by their sum, unless all are zero."""
    if preferences is None:
        return np.full(len(problem.names), 1.0 / len(problem.names))
    wanted = preferences_of(preferences, problem)
    return wanted / (wanted.sum() or 1.0)


def check_losses(problem: Problem, reason: str, *, positive: bool) -> None:
    """Raise a ValueError that names the first task whose loss a method cannot handle.

    Args:
        problem: the problem with the losses.
        reason: what the method does with them, as in "GLS takes their logarithms".
        positive: whether zero is invalid too.
    """
    for name, loss in zip(problem.names, problem.losses, strict=True):
        if loss < 0 or (positive and loss == 0):
            kind = "positive" if positive else "at least 0"
            raise ValueError(
                f"{reason}, so the losses must be {kind}; found {loss:g} for task {name!r}. Leave "
                f"such a task out of the step, by None; say how low its loss can come, "
                f"Shifted(solver, min_losses=...); or choose another method"
            )


def _numbers(given: PerTask) -> list[object]:
    """The numbers of an option, by name or in order; none if it is neither."""
    if isinstance(given, Mapping):
        return list(given.values())
    return list(given) if isinstance(given, Sequence) or np.ndim(given) == 1 else []
