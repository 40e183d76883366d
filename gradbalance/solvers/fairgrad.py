"""FairGrad: α-fair allocation of the decreases."""

from typing import final

from gradbalance.numerics import barrier_point
from gradbalance.numerics.checks import check_count, check_number
from gradbalance.solvers.options import PerTask, check_preferences, preferences_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class FairGrad(StatelessSolver):
    r"""Fair resource allocation: the direction of the largest α-fair utility of the decreases.

    .. math::
        G w = p \circ w^{-1/\alpha}, \qquad d = J^\top w
        \;\propto\; \arg\max_{\|d\| \le 1} \sum_i p_i^\alpha
        \frac{\langle g_i, d \rangle^{1-\alpha}}{1 - \alpha}

    with g_i the rows of J [T, P], G = J Jᵀ [T, T], the weights w [T] > 0 and the preferences p [T],
    ones by default; a logarithm where α = 1. The larger α, the more the worst-off task counts:
    α → 0 tends to the largest sum of decreases, α = 1 is `NashMTL`, α = 2 maximises their harmonic
    mean, α → ∞ tends to MGDA's direction. Every task has the decrease ⟨g_i, d⟩ =
    p_i w_i^(−1/α) > 0 where zero is not in the convex hull of the gradients. Where it is (opposed
    gradients, a zero one), no solution exists: the status is stationary, the direction zero to
    rounding, and Σw_i‖g_i‖ = T.
    Scaling all gradients by c scales the weights by c^(−2α/(1+α)).

    Args:
        alpha: α > 0, what counts as fair. Solved in a dozen steps for α about 1, in hundreds for
            100 and more tasks with α ≤ 0.1 or α ≥ 10.
        preferences: one positive number a task, by name or in order.
        tol: relative tolerance of the certificate; see `numerics.BarrierPoint`.
        max_steps: limit of Newton steps; reaching it is told in the status.

    Raises:
        ValueError: an option is out of range, or preferences do not fit the tasks.

    Example:
        >>> import gradbalance as gb
        >>> problem = gb.Problem.of([[8.0, 0.0], [0.0, 1.0]])
        >>> gb.FairGrad(alpha=2.0).solve(problem).weights
        array([0.25, 1.  ])

    References:
        Ban & Ji 2024, arXiv 2402.15638.

    Deviation: the equation is solved to rounding by Newton's method; the official code minimises
    its squared residual over w ≥ 0 from uniform weights, which looks at long gradients first and
    may end far from the solution for the short ones. It then multiplies d by T and clips its norm
    to 1; here d is the equation's (`Balancer(scale=...)` sets a common length). α = 0 is refused:
    the method is then uniform weights by definition.
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
        """Weights w with (Gw)_i w_i^(1/α) = p_i, certified row by row."""
        point = barrier_point(
            problem.gramian,
            power=1.0 / self.alpha,
            preferences=preferences_of(self.preferences, problem),
            tol=self.tol,
            max_steps=self.max_steps,
            finest=problem.resolution,
        )
        return Solution(*point)
