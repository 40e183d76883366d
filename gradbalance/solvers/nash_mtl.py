"""Nash-MTL: the direction that tasks would agree on by bargaining."""

import math
from typing import final

from gradbalance.numerics import barrier_point
from gradbalance.numerics.checks import check_count, check_number
from gradbalance.solvers.options import PerTask, check_preferences, preferences_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class NashMTL(StatelessSolver):
    r"""Multi-task learning as a bargaining game: the direction of the largest product of decreases.

    .. math::
        G w = p \oslash w, \qquad d = J^\top w
        \;\propto\; \arg\max_{\|d\| \le 1} \sum_i p_i \log \langle g_i, d \rangle

    with g_i the rows of J [T, P], G = J Jᵀ [T, T], the weights w [T] > 0 and the preferences p [T]
    (bargaining powers, ones by default). Every task has the decrease ⟨g_i, d⟩ = p_i/w_i > 0 where
    zero is not in the convex hull of the gradients. Where it is (opposed gradients, a zero one), no
    solution exists: the status is stationary, the direction zero to rounding, and Σw_i‖g_i‖ = T.
    Scaling a gradient changes no direction, and ‖d‖² = Σp whatever the gradients.

    Args:
        preferences: one positive number a task, by name or in order.
        max_norm: the length ‖d‖ is clipped to this; None leaves it.
        tol: relative tolerance of the certificate; see `numerics.BarrierPoint`.
        max_steps: limit of Newton steps; reaching it is told in the status.

    Raises:
        ValueError: an option is out of range, or preferences do not fit the tasks.

    Example:
        >>> import gradbalance as gb
        >>> gb.NashMTL().solve(gb.Problem.of([[4.0, 0.0], [0.0, 1.0]])).weights
        array([0.5, 1. ])

    References:
        Navon et al. 2022, arXiv 2202.01017.

    Deviation: the equation is solved to rounding by Newton's method; the official code takes 20
    rounds of a general solver, and keeps ones or its last weights without a word where that solver
    fails or is not installed. It also clips ‖d‖ to 1: since ‖d‖ = √T at every step, that is a
    constant factor of the learning rate, and off here by default (`max_norm=1.0` brings it back).
    It weights the heads' gradients, too; here `Balancer(heads="weighted")` does. Its option to
    reuse weights is `Balancer(every=k)`.
    """

    needs = "gramian"
    weighs = "gradients"

    def __init__(
        self,
        *,
        preferences: PerTask | None = None,
        max_norm: float | None = None,
        tol: float = 1e-10,
        max_steps: int = 1000,
    ) -> None:
        check_preferences(preferences, positive=True)
        if max_norm is not None:
            check_number("max_norm", max_norm, "(0, inf)")
        check_number("tol", tol, "[0, 1)")
        check_count("max_steps", max_steps)
        self.preferences = preferences
        self.max_norm = max_norm
        self.tol = tol
        self.max_steps = max_steps

    def solve(self, problem: Problem) -> Solution:
        """Weights w with w_i (Gw)_i = p_i, certified row by row before they are clipped."""
        gram = problem.gramian
        point = barrier_point(
            gram,
            preferences=preferences_of(self.preferences, problem),
            tol=self.tol,
            max_steps=self.max_steps,
            finest=problem.resolution,
        )
        weights = point.weights
        if self.max_norm is not None:
            length = math.sqrt(max(float(weights @ gram @ weights), 0.0))
            weights = weights * (self.max_norm / max(length, self.max_norm))
        return Solution(weights, point.status, point.num_steps, point.certificate)
