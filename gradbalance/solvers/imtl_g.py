"""IMTL-G: a direction with the same projection onto every gradient."""

from typing import final

import numpy as np

from gradbalance.numerics import Status, given_projections
from gradbalance.numerics.checks import check_number
from gradbalance.solvers.options import PerTask, check_preferences, preferences_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver

_SMALLEST_SUM = 1e-6  # of Σ|v|; gradients in float32 tell a smaller one from zero no longer


@final
class IMTLG(StatelessSolver):
    r"""Impartial multi-task learning, the part for gradients: equal projections, weights of sum 1.

    .. math::
        \frac{\langle g_i, d \rangle}{\|g_i\|} = \mu\, p_i \;\text{ for all } i, \quad
        \sum_i w_i = 1, \quad d = J^\top w: \qquad
        w = \frac{v}{\sum_j v_j}, \quad v_i = \frac{(C^+ p)_i}{\|g_i\|}

    with g_i the rows of J [T, P], their cosines C [T, T] and the preferences p [T], ones by
    default. The projections are equal, but nothing makes μ = 1/Σv positive: with norms that differ
    by orders of magnitude every loss may rise along d. So it promises no task a decrease, except
    for two tasks (with equal preferences). Its status says how it ended:

    * ascent: Σv < 0. The weights are the paper's, and every loss rises.
    * ill-posed: |Σv| < 1e-6·Σ|v|, where the weights explode, or the gradients are linearly
      dependent and no direction has such projections (the nearest in the mean square is taken).
      The weights are then v/Σ|v|: bounded, and along v, which lowers the losses if anything does.
    * stationary: the nearest projections are zero, as with opposed gradients; so are the weights.

    Zero gradients get the weight 0, equal ones share theirs.

    Args:
        preferences: what the projections are to be in the ratio of, one positive number a task,
            by name or in order.
        rank_tol: eigenvalues of C below rank_tol times its largest count as zero; 1e-12 suits
            gradients in float32, 1e-9 those in bfloat16.

    Raises:
        ValueError: preferences do not fit, or rank_tol is not in (0, 1).

    Example:
        >>> import gradbalance as gb
        >>> solution = gb.IMTLG().solve(gb.Problem.of([[4.0, 0.0], [0.0, 1.0]]))
        >>> solution.weights.round(12)
        array([0.33333333, 0.66666667])

    References:
        Liu et al., Towards impartial multi-task learning, ICLR 2021 (no preprint; compared in
        arXiv 2202.01017).

    Deviation: what the paper leaves undefined is bounded as above, and preferences are ours. The
    official rule inverts a matrix of T − 1 differences, which is the same where it is regular.
    """

    needs = "gramian"
    weighs = "gradients"

    def __init__(self, *, preferences: PerTask | None = None, rank_tol: float = 1e-12) -> None:
        check_preferences(preferences, positive=True)
        check_number("rank_tol", rank_tol, "(0, 1)")
        self.preferences = preferences
        self.rank_tol = rank_tol

    def solve(self, problem: Problem) -> Solution:
        """The weights in closed form."""
        wanted = preferences_of(self.preferences, problem)
        found = given_projections(problem.gramian, wanted, rank_tol=self.rank_tol)
        if found.status is Status.STATIONARY:
            return Solution(found.weights, found.status)
        weights = found.weights / np.abs(found.weights).sum()
        total = float(weights.sum())
        if found.status is Status.ILL_POSED or abs(total) < _SMALLEST_SUM:
            return Solution(weights, Status.ILL_POSED)
        return Solution(weights / total, Status.CONVERGED if total > 0 else Status.ASCENT)
