"""DualProj: the mean gradient, moved as little as takes its conflicts away."""

from typing import final

from gradbalance.numerics import bounded_minima
from gradbalance.solvers.options import PerTask, check_preferences, shares_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class DualProj(StatelessSolver):
    r"""Projection of the mean gradient onto the dual cone: the nearest that conflicts with none.

    .. math:: w = \arg\min_{v \ge p} v^\top G v, \qquad d = J^\top w

    with G = J Jᵀ [T, T] the Gramian and p [T] the preferences, divided by their sum: 1/T each by
    default. d is the direction nearest to Jᵀp along which no loss rises, so ⟨g_i, d⟩ ≥ 0 for every
    task. Where the mean conflicts with no gradient, d is the mean.

    Args:
        preferences: one number a task, by name or in order, not negative; only their ratios
            count. A task with a preference of zero is not followed, but not harmed either.

    Raises:
        ValueError: preferences do not fit.

    Example:
        >>> import gradbalance as gb
        >>> gb.DualProj().solve(gb.Problem.of([[1.0, -2.0], [-2.0, 16.0]])).weights
        array([1. , 0.5])

    References:
        Lopez-Paz & Ranzato 2017, arXiv 1706.08840, equation 11.

    Deviation: the paper projects the new task's gradient so that it conflicts with none of the
    earlier tasks; here all tasks are on a par and their mean is projected. `preferences` of 1 for
    one task and 0 for the others give the paper's rule. Its code adds 1e-3 to the Gramian and a
    margin of 0.5 to the multipliers; here the problem is solved exactly.
    """

    needs = "gramian"
    weighs = "gradients"

    def __init__(self, *, preferences: PerTask | None = None) -> None:
        check_preferences(preferences, positive=False)
        self.preferences = preferences

    def solve(self, problem: Problem) -> Solution:
        """The projection of the mean, certified row by row."""
        minima = bounded_minima(problem.gramian, shares_of(self.preferences, problem))
        return Solution(minima.points[0], minima.status, minima.num_steps, minima.certificate)
