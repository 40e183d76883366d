"""Uniform weights: the plain sum of the losses, or a fixed weighted sum."""

from typing import final

from gradbalance.solvers.options import PerTask, check_preferences, preferences_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class Uniform(StatelessSolver):
    r"""Constant weights: the same as `sum(losses).backward()`, or a fixed weighted sum.

    .. math:: w_i = p_i, \qquad d = J^\top p

    with J [T, P] the tasks' gradients and p [T] the preferences, 1 by default. Tuned methods fail
    to beat this baseline (arXiv 2201.04122, 2209.11379), so compare with it first. No task's loss
    is guaranteed to decrease.

    Args:
        preferences: one non-negative number per task, by name or in order; ones by default.

    Raises:
        ValueError: preferences are negative, not finite or all zero, or do not fit the tasks.

    Example:
        >>> import gradbalance as gb
        >>> gb.Uniform().solve(gb.Problem.of(losses=[3.0, 5.0])).weights
        array([1., 1.])
        >>> gb.Uniform(preferences=[1.0, 0.5]).solve(gb.Problem.of(losses=[3.0, 5.0])).weights
        array([1. , 0.5])
    """

    needs = "losses"
    weighs = "losses"

    def __init__(self, *, preferences: PerTask | None = None) -> None:
        check_preferences(preferences, positive=False)
        self.preferences = preferences

    def solve(self, problem: Problem) -> Solution:
        """Return the preferences, whatever the losses are."""
        return Solution(preferences_of(self.preferences, problem))
