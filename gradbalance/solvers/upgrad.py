"""UPGrad: project each gradient so that it conflicts with none, then average them."""

from typing import final

import numpy as np

from gradbalance.numerics import bounded_minima
from gradbalance.solvers.options import PerTask, check_preferences, shares_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class UPGrad(StatelessSolver):
    r"""Unconflicting projection of gradients: the mean of gradients projected to be conflict-free.

    .. math::
        w = \sum_i p_i \, v(e_i), \qquad v(u) = \arg\min_{v \ge u} v^\top G v, \qquad d = J^\top w

    with G = J Jᵀ [T, T] the Gramian, e_i the unit vectors, and p [T] the preferences divided by
    their sum, 1/T each by default. Jᵀv(e_i) is the direction closest to g_i along which no loss
    rises, so ⟨g_i, d⟩ ≥ 0 for every task. If no gradients conflict, d is their mean. A task with a
    larger gradient has more influence, as in a plain sum.

    Args:
        preferences: one non-negative number per task, by name or in order; only their ratios
            matter. A task with preference 0 is not optimised, but its loss does not rise either.

    Raises:
        ValueError: preferences do not fit the tasks.

    Example:
        >>> import gradbalance as gb
        >>> gb.UPGrad().solve(gb.Problem.of([[1.0, -1.0], [-1.0, 4.0]])).weights
        array([1.   , 0.625])

    References:
        Quinton & Rey 2024, arXiv 2406.16232.

    Deviation: none in what is computed. The authors' code adds 1e-4 to the normalised Gramian, so
    that gradients of very different norms still conflict; here the problems are solved exactly.
    """

    needs = "gramian"
    weighs = "gradients"

    def __init__(self, *, preferences: PerTask | None = None) -> None:
        check_preferences(preferences, positive=False)
        self.preferences = preferences

    def solve(self, problem: Problem) -> Solution:
        """Compute the mean of the projections, with a certificate for each row."""
        minima = bounded_minima(problem.gramian, np.diag(shares_of(self.preferences, problem)))
        return Solution(
            minima.points.sum(axis=0), minima.status, minima.num_steps, minima.certificate
        )
