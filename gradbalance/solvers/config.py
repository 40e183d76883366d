"""ConFIG: a direction with the same positive cosine to every gradient."""

from typing import final

import numpy as np

from gradbalance.numerics import Status, given_projections
from gradbalance.numerics.checks import check_number
from gradbalance.solvers.options import PerTask, check_preferences, preferences_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class ConFIG(StatelessSolver):
    r"""Conflict-free inverse gradients: the direction has the same cosine with every gradient.

    .. math::
        a = C^+ p, \quad u = \frac{v}{\|v\|}, \; v = \sum_i a_i \frac{g_i}{\|g_i\|}, \qquad
        d = \Big(\sum_i \langle g_i, u \rangle\Big)\, u

    with g_i the rows of J [T, P], C [T, T] their cosines, C⁺ its pseudo-inverse, and p [T] the
    preferences, ones by default. The length of d is the sum of the gradients' projections onto u.
    If p is in the range of C, as for all linearly independent gradients, ⟨g_i, d⟩ > 0 for every
    task, and the cosines of d with the gradients are proportional to p. Otherwise the cosines are
    the least-squares approximation and the status is ill-posed. A task's loss may then rise, but
    not the sum of the losses, since ⟨Σg_i, d⟩ = (Σ⟨g_i, u⟩)². For this reason d keeps the paper's
    length even if it is negative, so that d opposes u. If the approximation is zero, as with
    opposed gradients, the weights are zero and the status is stationary. Zero gradients get the
    weight 0, equal gradients share their weight.

    Args:
        preferences: the desired ratio of the cosines, one positive number per task, by name or in
            order.
        rank_tol: eigenvalues of C below rank_tol times the largest one count as zero; 1e-12 suits
            gradients in float32, 1e-9 gradients in bfloat16.

    Raises:
        ValueError: preferences do not fit the tasks, or rank_tol is not in (0, 1).

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
        """Compute the weights in closed form."""
        gram = problem.gramian
        wanted = preferences_of(self.preferences, problem)
        found = given_projections(gram, wanted, rank_tol=self.rank_tol)
        if found.status is Status.STATIONARY:
            return Solution(found.weights, found.status)
        products = found.projections * np.sqrt(np.diagonal(gram))  # ⟨g_i, v⟩
        square = found.weights @ products  # ‖v‖²
        return Solution(found.weights * (products.sum() / square), found.status)
