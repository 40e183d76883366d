"""Options that are one number a task, by name or in order."""

from collections.abc import Mapping, Sequence

import numpy as np

from gradbalance.numerics.array import Array
from gradbalance.solvers.solver import Problem

PerTask = Mapping[str, float] | Sequence[float]


def check_per_task(argument: str, given: PerTask | None) -> None:
    """Raise a ValueError unless all numbers of an option are finite."""
    if given is not None:
        values = given.values() if isinstance(given, Mapping) else given
        found = np.asarray(list(values), dtype=np.float64)
        if found.size == 0 or not np.isfinite(found).all():
            raise ValueError(f"{argument} must be finite numbers, one a task; found {given!r}")


def per_task(argument: str, given: PerTask | None, problem: Problem, default: float) -> Array:
    """An option's numbers [t] for the tasks that take part in this step."""
    if given is None:
        return np.full(len(problem.names), default)
    if isinstance(given, Mapping):
        by_name = dict(given)
        if set(by_name) != set(problem.tasks):
            raise ValueError(
                f"{argument} must name every task; found {sorted(by_name)} "
                f"for the tasks {list(problem.tasks)}"
            )
    else:
        if len(given) != len(problem.tasks):
            raise ValueError(
                f"{argument} must have one number a task; found {len(given)} "
                f"for the tasks {list(problem.tasks)}"
            )
        by_name = dict(zip(problem.tasks, given, strict=True))
    return np.array([by_name[name] for name in problem.names], dtype=np.float64)
