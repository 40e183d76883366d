"""Preferences: fixed positive factors that a user gives the tasks, by name or in order."""

from collections.abc import Mapping

import numpy as np

from gradbalance.numerics.array import Array
from gradbalance.solvers.per_task import PerTask, per_task
from gradbalance.solvers.solver import Problem

Preferences = PerTask


def check_preferences(preferences: Preferences | None, *, positive: bool) -> None:
    """Raise a ValueError for preferences that no tasks could have.

    Args:
        preferences: as the user gave them.
        positive: whether zero is refused as well.
    """
    if preferences is None:
        return
    values = preferences.values() if isinstance(preferences, Mapping) else preferences
    found = np.asarray(list(values), dtype=np.float64)
    low = found <= 0 if positive else found < 0
    if not np.isfinite(found).all() or low.any() or not found.any():
        kind = "positive" if positive else "non-negative, not all zero,"
        raise ValueError(f"preferences must be finite and {kind} numbers; found {preferences!r}")


def preferences_of(preferences: Preferences | None, problem: Problem) -> Array:
    """The preferences [t] of the tasks that take part in this step; ones if there are none."""
    return per_task("preferences", preferences, problem, 1.0)
