"""DualProj: the direction closest to the mean gradient that conflicts with no gradient."""

from typing import final

from gradbalance.numerics import bounded_minima
from gradbalance.solvers.options import PerTask, check_preferences, shares_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class DualProj(StatelessSolver):
    r"""Dual-cone projection: the direction closest to the mean gradient that has no conflicts.

    .. math:: w = \arg\min_{v \ge p} v^\top G v, \qquad d = J^\top w

    with G = J Jᵀ [T, T] the Gramian, and p [T] the preferences divided by their sum, 1/T each by
    default. d is the direction closest to Jᵀp along which no loss rises, so ⟨g_i, d⟩ ≥ 0 for every
    task. If the mean gradient conflicts with no gradient, d is the mean gradient.

    Args:
        preferences: one non-negative number per task, by name or in order; only their ratios
            matter. A task with preference 0 is not optimised, but its loss does not rise either.

    Raises:
        ValueError: preferences do not fit the tasks.

    Example:
        >>> import gradbalance as gb
        >>> gb.DualProj().solve(gb.Problem.of([[1.0, -2.0], [-2.0, 16.0]])).weights
        array([1. , 0.5])

    References:
        Lopez-Paz & Ranzato 2017, arXiv 1706.08840, equation 11.

    Deviation: the paper projects the gradient of a new task so that it conflicts with none of the
    earlier tasks; here all tasks are treated equally, and their mean gradient is projected.
    `preferences` of 1 for one task and 0 for the others give the paper's rule. The paper's code
    adds 1e-3 to the Gramian and a margin of 0.5 to the multipliers; here the problem is solved
    exactly.
    """

    needs = "gramian"
    weighs = "gradients"

    def __init__(self, *, preferences: PerTask | None = None) -> None:
        check_preferences(preferences, positive=False)
        self.preferences = preferences

    def solve(self, problem: Problem) -> Solution:
        """Compute the projection of the mean, with a certificate for each row."""
        minima = bounded_minima(problem.gramian, shares_of(self.preferences, problem))
        return Solution(minima.points[0], minima.status, minima.num_steps, minima.certificate)
