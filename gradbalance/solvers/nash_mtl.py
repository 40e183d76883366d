"""Nash-MTL: the direction on which the tasks would agree by bargaining."""

import math
from typing import final

from gradbalance.numerics import barrier_point
from gradbalance.numerics.checks import check_count, check_number
from gradbalance.solvers.options import PerTask, check_preferences, preferences_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class NashMTL(StatelessSolver):
    r"""Multi-task learning as a bargaining game: maximise the product of the tasks' decreases.

    .. math::
        G w = p \oslash w, \qquad d = J^\top w
        \;\propto\; \arg\max_{\|d\| \le 1} \sum_i p_i \log \langle g_i, d \rangle

    with g_i the rows of J [T, P], G = J Jᵀ [T, T] the Gramian, w [T] > 0 the weights, and p [T] the
    preferences (bargaining powers, ones by default). If zero is not in the convex hull of the
    gradients, every task has the decrease ⟨g_i, d⟩ = p_i/w_i > 0. If it is (opposed gradients, a
    zero gradient), no solution exists: the status is stationary, the direction is zero up to
    rounding, and Σw_i‖g_i‖ = T. Scaling a gradient does not change the direction, and ‖d‖² = Σp
    whatever the gradients are.

    Args:
        preferences: one positive number per task, by name or in order.
        max_norm: the largest allowed norm ‖d‖; longer directions are shortened to it. None for no
            limit.
        tol: the relative tolerance of the certificate; see `numerics.BarrierPoint`.
        max_steps: the limit of Newton steps; the status reports whether it was reached.

    Raises:
        ValueError: an option is out of range, or preferences do not fit the tasks.

    Example:
        >>> import gradbalance as gb
        >>> gb.NashMTL().solve(gb.Problem.of([[4.0, 0.0], [0.0, 1.0]])).weights
        array([0.5, 1. ])

    References:
        Navon et al. 2022, arXiv 2202.01017.

    Deviation: the equation is solved up to rounding by Newton's method. The official code runs 20
    rounds of a general solver, and silently keeps ones or its last weights if that solver fails or
    is not installed. It also clips ‖d‖ to 1; since ‖d‖ = √T at every step, this is a constant
    factor of the learning rate, so clipping is off by default here (`max_norm=1.0` turns it on).
    The official code also weights the heads' gradients; use `Balancer(heads="weighted")` for that.
    Its option to reuse weights is `Balancer(every=k)`.
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
        """Compute w with w_i (Gw)_i = p_i, with a certificate for each row before clipping."""
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
