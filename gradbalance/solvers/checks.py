"""Checks that several methods share."""

import numpy as np

from gradbalance.solvers.solver import Problem


def check_positive(argument: str, found: float) -> None:
    """Raise a ValueError unless an option is a finite number above zero."""
    if not 0 < found < np.inf:
        raise ValueError(f"{argument} must be a positive number; found {found!r}")


def check_positive_losses(method: str, problem: Problem, reason: str) -> None:
    """Raise a ValueError that names the first task whose loss is not above zero.

    Args:
        method: its name.
        problem: whose losses are looked at.
        reason: what the method does with them, as in "takes their logarithm".
    """
    for name, loss in zip(problem.names, problem.losses, strict=True):
        if not loss > 0:
            raise ValueError(
                f"{method} {reason}, so the losses must be positive; found {loss:g} for task "
                f"{name!r}. Leave such a task out of the step, by None, or choose another method"
            )
