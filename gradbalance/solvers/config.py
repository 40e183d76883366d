"""ConFIG: a direction with the same positive cosine with every gradient."""

from typing import final

import numpy as np

from gradbalance.numerics import Status, given_projections
from gradbalance.numerics.checks import check_number
from gradbalance.solvers.options import PerTask, check_preferences, preferences_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class ConFIG(StatelessSolver):
    r"""Conflict-free inverse gradients: equal cosines, and the length of the summed projections.

    .. math::
        a = C^+ p, \quad u = \frac{v}{\|v\|}, \; v = \sum_i a_i \frac{g_i}{\|g_i\|}, \qquad
        d = \Big(\sum_i \langle g_i, u \rangle\Big)\, u

    with g_i the rows of J [T, P], their cosines C [T, T] and the preferences p [T], ones by
    default. Where p is in the range of C, as for every linearly independent set of gradients,
    ⟨g_i, d⟩ > 0 for every task, and the cosines of d with the gradients are in the ratio of p.
    Elsewhere the cosines are the nearest in the mean square and the status is ill-posed: a task's
    loss may rise, but not the sum of the losses, since ⟨Σg_i, d⟩ = (Σ⟨g_i, u⟩)². For the same
    reason d keeps the paper's length even where that is negative and d opposes u. Where the nearest
    are zero, as with opposed gradients, the weights are zero and the status is stationary. Zero
    gradients get the weight 0, equal ones share theirs.

    Args:
        preferences: what the cosines are to be in the ratio of, one positive number a task, by
            name or in order.
        rank_tol: eigenvalues of C below rank_tol times its largest count as zero; 1e-12 suits
            gradients in float32, 1e-9 those in bfloat16.

    Raises:
        ValueError: preferences do not fit, or rank_tol is not in (0, 1).

    Example:
        >>> import gradbalance as gb
        >>> gb.ConFIG().solve(gb.Problem.of([[4.0, 0.0], [0.0, 1.0]])).weights
        array([0.75, 1.5 ])

    References:
        Liu, Chu and Thuerey 2024, arXiv 2408.11104.
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
        gram = problem.gramian
        wanted = preferences_of(self.preferences, problem)
        found = given_projections(gram, wanted, rank_tol=self.rank_tol)
        if found.status is Status.STATIONARY:
            return Solution(found.weights, found.status)
        products = found.projections * np.sqrt(np.diagonal(gram))  # ⟨g_i, v⟩
        square = found.weights @ products  # ‖v‖²
        return Solution(found.weights * (products.sum() / square), found.status)
