"""IMTL-G: a direction with the same projection onto every gradient."""

from typing import final

import numpy as np

from gradbalance.numerics import Status, given_projections
from gradbalance.numerics.checks import check_number
from gradbalance.solvers.options import PerTask, check_preferences, preferences_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver

_SMALLEST_SUM = 1e-6  # of Σ|v|; a smaller sum of float32 gradients may just as well be zero


@final
class IMTLG(StatelessSolver):
    r"""Impartial multi-task learning, gradient balance: equal projections onto all gradients.

    .. math::
        \frac{\langle g_i, d \rangle}{\|g_i\|} = \mu\, p_i \;\text{ for all } i, \quad
        \sum_i w_i = 1, \quad d = J^\top w: \qquad
        w = \frac{v}{\sum_j v_j}, \quad v_i = \frac{(C^+ p)_i}{\|g_i\|}

    with g_i the rows of J [T, P], C [T, T] their cosines, C⁺ its pseudo-inverse, and p [T] the
    preferences, ones by default. The projections are equal, but μ = 1/Σv may be negative: if norms
    differ by orders of magnitude, every loss may rise along d. So no task's loss is guaranteed to
    decrease, except with two tasks (and equal preferences). The status says how it ended:

    * ascent: Σv < 0. The weights are those of the paper, and every loss rises.
    * ill-posed: |Σv| < 1e-6·Σ|v|, so that the weights would explode, or the gradients are linearly
      dependent and no direction has such projections (the least-squares approximation is used).
      The weights are then v/Σ|v|: bounded, and along v, which lowers the losses if anything does.
    * stationary: the approximated projections are zero, as with opposed gradients, and so are the
      weights.

    Zero gradients get the weight 0, equal gradients share their weight.

    Args:
        preferences: the desired ratio of the projections, one positive number per task, by name or
            in order.
        rank_tol: eigenvalues of C below rank_tol times the largest one count as zero; 1e-12 suits
            gradients in float32, 1e-9 gradients in bfloat16.

    Raises:
        ValueError: preferences do not fit the tasks, or rank_tol is not in (0, 1).

    Example:
        >>> import gradbalance as gb
        >>> solution = gb.IMTLG().solve(gb.Problem.of([[4.0, 0.0], [0.0, 1.0]]))
        >>> solution.weights.round(12)
        array([0.33333333, 0.66666667])

    References:
        Liu et al., Towards impartial multi-task learning, ICLR 2021 (no preprint; compared in
        arXiv 2202.01017).

    Deviation: cases that the paper leaves undefined are handled as above, and preferences are an
    addition. The official rule inverts a matrix of T − 1 differences, which gives the same result
    if that matrix is regular.
    """

    needs = "gramian"
    weighs = "gradients"

    def __init__(self, *, preferences: PerTask | None = None, rank_tol: float = 1e-12) -> None:
        check_preferences(preferences, positive=True)
        check_number("rank_tol", rank_tol, "(0, 1)")
        self.preferences = preferences
        self.rank_tol = rank_tol

    def solve(self, problem: Problem) -> Solution:
        """Compute the weights in closed form."""
        wanted = preferences_of(self.preferences, problem)
        found = given_projections(problem.gramian, wanted, rank_tol=self.rank_tol)
        if found.status is Status.STATIONARY:
            return Solution(found.weights, found.status)
        weights = found.weights / np.abs(found.weights).sum()
        total = float(weights.sum())
        if found.status is Status.ILL_POSED or abs(total) < _SMALLEST_SUM:
            return Solution(weights, Status.ILL_POSED)
        return Solution(weights / total, Status.CONVERGED if total > 0 else Status.ASCENT)
