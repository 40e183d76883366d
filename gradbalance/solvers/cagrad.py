"""CAGrad: near the mean gradient, the direction that serves the worst-off task best."""

from typing import final

from gradbalance.numerics import max_min_vector
from gradbalance.numerics.checks import check_choice, check_number
from gradbalance.solvers.options import PerTask, check_preferences, shares_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class CAGrad(StatelessSolver):
    r"""Conflict-averse gradient descent: the largest least decrease in a ball around the mean.

    .. math::
        \max_d \min_i \langle g_i, d \rangle \;\text{ over }\; \|d - g_0\| \le c \|g_0\|: \qquad
        d = g_0 + \frac{c \|g_0\|}{\|g_u\|} g_u, \quad
        u = \arg\min_{u \in \Delta} \langle g_u, g_0 \rangle + c \|g_0\| \|g_u\|

    with g_0 = Jᵀp, g_u = Jᵀu, J [T, P], the preferences p [T] brought to Σp = 1 (the mean, 1/T
    each, by default) and the simplex Δ; the weights are p + c‖g_0‖u/‖g_u‖. For c ≥ 1 the ball
    contains 0 and no task's loss rises along d; for c < 1 nothing is promised to a single task, but
    the mean loss (weighted by p) falls. c = 0 is plain averaging, and for c → ∞ the direction is
    MGDA's.

    Where the gradients balance (g_u = 0), d is the vector nearest to g_0 along which no loss
    rises: the limit of smaller balls, and zero where only zero is left.

    Args:
        c: radius of the ball over ‖g_0‖, ≥ 0; the paper uses 0.2 to 0.8.
        rescale: whether the direction is divided by 1 + c², as in the official code's
            experiments, so that it does not grow with c.
        preferences: one non-negative number a task, by name or in order.

    Raises:
        ValueError: an option is out of range, or preferences do not fit.

    Example:
        >>> import gradbalance as gb
        >>> gb.CAGrad(c=1.0).solve(gb.Problem.of([[1.0, 0.0], [0.0, 1.0]])).weights
        array([1., 1.])

    References:
        Liu et al. 2021, arXiv 2110.14048.

    Deviation: the official code adds 1e-8 to the norms and lets a general solver stop early; here
    u is exact and certified, which the promise for c ≥ 1 needs. Where g_u = 0 the paper's formula
    is 0/0. Leaving zero gradients out changes the mean they would have entered; the direction
    only in length.
    """

    needs = "gramian"
    weighs = "gradients"

    def __init__(
        self, *, c: float = 0.5, rescale: bool = False, preferences: PerTask | None = None
    ) -> None:
        check_number("c", c, "[0, inf)")
        check_choice("rescale", rescale, [False, True])
        check_preferences(preferences, positive=False)
        self.c = c
        self.rescale = rescale
        self.preferences = preferences

    def solve(self, problem: Problem) -> Solution:
        """Weights with their certificate."""
        center = shares_of(self.preferences, problem)
        found = max_min_vector(problem.gramian, center, radius=self.c)
        weights = found.weights / (1 + self.c**2) if self.rescale else found.weights
        return Solution(weights, found.status, found.num_steps, found.certificate)
