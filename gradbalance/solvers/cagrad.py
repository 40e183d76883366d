"""CAGrad: the direction near the mean gradient that is best for the worst-off task."""

from typing import final

from gradbalance.numerics import max_min_vector
from gradbalance.numerics.checks import check_choice, check_number
from gradbalance.solvers.options import PerTask, check_preferences, shares_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class CAGrad(StatelessSolver):
    r"""Conflict-averse gradient descent: maximise the smallest decrease, near the mean gradient.

    .. math::
        \max_d \min_i \langle g_i, d \rangle \;\text{ over }\; \|d - g_0\| \le c \|g_0\|: \qquad
        d = g_0 + \frac{c \|g_0\|}{\|g_u\|} g_u, \quad
        u = \arg\min_{u \in \Delta} \langle g_u, g_0 \rangle + c \|g_0\| \|g_u\|

    with g_i the rows of J [T, P], g_0 = Jᵀp, g_u = Jᵀu, Δ the simplex, and p [T] the preferences
    divided by their sum (1/T each by default, so that g_0 is the mean gradient). The weights are
    p + c‖g_0‖u/‖g_u‖. For c ≥ 1 the ball contains 0, and no task's loss rises along d. For c < 1
    nothing is guaranteed for a single task, but the mean loss (weighted by p) falls. c = 0 is plain
    averaging, and for c → ∞ the direction is that of MGDA.

    If the gradients can be combined to zero (g_u = 0), d is the vector closest to g_0 along which
    no loss rises. This is the limit of smaller balls, and zero if zero is the only such vector.

    Args:
        c: the radius of the ball divided by ‖g_0‖, ≥ 0; the paper uses 0.2 to 0.8.
        rescale: whether to divide the direction by 1 + c², as the official code does in its
            experiments, so that it does not grow with c.
        preferences: one non-negative number per task, by name or in order.

    Raises:
        ValueError: an option is out of range, or preferences do not fit the tasks.

    Example:
        >>> import gradbalance as gb
        >>> gb.CAGrad(c=1.0).solve(gb.Problem.of([[1.0, 0.0], [0.0, 1.0]])).weights
        array([1., 1.])

    References:
        Liu et al. 2021, arXiv 2110.14048.

    Deviation: the official code adds 1e-8 to the norms and lets a general solver stop early; here
    u is exact and certified, which the guarantee for c ≥ 1 requires. For g_u = 0 the paper's
    formula is 0/0. Leaving out zero gradients changes the mean gradient; the direction changes only
    in length.
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
        """Compute the weights and their certificate."""
        center = shares_of(self.preferences, problem)
        found = max_min_vector(problem.gramian, center, radius=self.c)
        weights = found.weights / (1 + self.c**2) if self.rescale else found.weights
        return Solution(weights, found.status, found.num_steps, found.certificate)
