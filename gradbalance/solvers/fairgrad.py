"""FairGrad: α-fair allocation of the losses' decreases."""

from typing import final

from gradbalance.numerics import barrier_point
from gradbalance.numerics.checks import check_count, check_number
from gradbalance.solvers.options import PerTask, check_preferences, preferences_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class FairGrad(StatelessSolver):
    r"""Fair resource allocation: maximise the α-fair utility of the tasks' decreases.

    .. math::
        G w = p \circ w^{-1/\alpha}, \qquad d = J^\top w
        \;\propto\; \arg\max_{\|d\| \le 1} \sum_i p_i^\alpha
        \frac{\langle g_i, d \rangle^{1-\alpha}}{1 - \alpha}

    with g_i the rows of J [T, P], G = J Jᵀ [T, T] the Gramian, w [T] > 0 the weights, and p [T] the
    preferences, ones by default; for α = 1 the utility is a logarithm. The larger α is, the more
    the worst-off task counts: α → 0 tends to the largest sum of decreases, α = 1 is `NashMTL`,
    α = 2 maximises the harmonic mean of the decreases, and α → ∞ tends to the direction of MGDA.

    If zero is not in the convex hull of the gradients, every task has the decrease
    ⟨g_i, d⟩ = p_i w_i^(−1/α) > 0. If it is (opposed gradients, a zero gradient), no solution
    exists: the status is stationary, the direction is zero up to rounding, and Σw_i‖g_i‖ = T.
    Scaling all gradients by c scales the weights by c^(−2α/(1+α)).

    Args:
        alpha: the fairness parameter α > 0. Takes about a dozen steps for α near 1, and hundreds
            for 100 or more tasks with α ≤ 0.1 or α ≥ 10.
        preferences: one positive number per task, by name or in order.
        tol: the relative tolerance of the certificate; see `numerics.BarrierPoint`.
        max_steps: the limit of Newton steps; the status reports whether it was reached.

    Raises:
        ValueError: an option is out of range, or preferences do not fit the tasks.

    Example:
        >>> import gradbalance as gb
        >>> problem = gb.Problem.of([[8.0, 0.0], [0.0, 1.0]])
        >>> gb.FairGrad(alpha=2.0).solve(problem).weights
        array([0.25, 1.  ])

    References:
        Ban & Ji 2024, arXiv 2402.15638.

    Deviation: the equation is solved up to rounding by Newton's method. The official code minimises
    the squared residual over w ≥ 0 from uniform weights, which is dominated by long gradients and
    may end far from the solution for short ones. It then multiplies d by T and clips its norm to 1;
    here d is the solution of the equation (use `Balancer(scale=...)` for a common length). α = 0
    raises an error, because the method is then the same as uniform weights, by definition.
    """

    needs = "gramian"
    weighs = "gradients"

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        preferences: PerTask | None = None,
        tol: float = 1e-10,
        max_steps: int = 1000,
    ) -> None:
        if alpha == 0:
            raise ValueError(f"alpha must be a number in (0, inf); found {alpha!r}: use Uniform()")
        check_number("alpha", alpha, "(0, inf)")
        check_preferences(preferences, positive=True)
        check_number("tol", tol, "[0, 1)")
        check_count("max_steps", max_steps)
        self.alpha = alpha
        self.preferences = preferences
        self.tol = tol
        self.max_steps = max_steps

    def solve(self, problem: Problem) -> Solution:
        """Compute w with (Gw)_i w_i^(1/α) = p_i, with a certificate for each row."""
        point = barrier_point(
            problem.gramian,
            power=1.0 / self.alpha,
            preferences=preferences_of(self.preferences, problem),
            tol=self.tol,
            max_steps=self.max_steps,
            finest=problem.resolution,
        )
        return Solution(*point)
