"""STCH: minimise a smooth maximum of the losses."""

from typing import final

from scipy.special import softmax  # type: ignore[import-untyped]

from gradbalance.numerics.checks import check_number
from gradbalance.solvers.options import (
    PerTask,
    check_per_task,
    check_preferences,
    per_task,
    shares_of,
)
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class STCH(StatelessSolver):
    r"""Smooth Tchebycheff scalarisation: minimises a smooth maximum of the losses.

    .. math::
        F = \mu \log \sum_j \exp \frac{\pi_j (L_j - z_j)}{\mu}, \qquad
        w_i = \frac{\partial F}{\partial L_i}
            = \pi_i \operatorname{softmax}\Big( \frac{\pi (L - z)}{\mu} \Big)_i

    with L [T] the losses, z [T] the reference, and π [T] the preferences divided by their sum, 1/T
    each by default; the weights then sum to 1/T. The task with the largest π_i (L_i − z_i) gets the
    largest weight, and all of it as μ → 0. No task's loss is guaranteed to decrease.

    Args:
        mu: μ > 0, in the units of π (L − z); for large μ the weights are proportional to π.
        reference: z, the best value that each loss can reach, by name or in order; zeros by
            default.
        preferences: one positive number per task, by name or in order; ones by default.

    Raises:
        ValueError: an option is out of range, or does not fit the tasks.

    Example:
        >>> import gradbalance as gb
        >>> gb.STCH(mu=0.5).solve(gb.Problem.of(losses=[1.0, 1.0])).weights
        array([0.25, 0.25])
        >>> gb.STCH(mu=0.1).solve(gb.Problem.of(losses=[1.0, 2.0])).weights.round(3)
        array([0.003, 0.497])

    References:
        Lin et al. 2024, arXiv 2402.19078.

    Deviation: the official multi-task code minimises μ T log Σ (L_j / ℓ_j)^(1/μ), with ℓ the mean
    losses of a warm-up epoch that minimises Σ log L. This is T² times the method here applied to
    the logarithms of the losses: pass `{name: loss.log()}` to the `Balancer`, the logarithms of ℓ
    as `reference`, and μ/T for its μ. With the losses themselves, their units matter.
    """

    needs = "losses"
    weighs = "losses"

    def __init__(
        self,
        *,
        mu: float = 1.0,
        reference: PerTask | None = None,
        preferences: PerTask | None = None,
    ) -> None:
        check_number("mu", mu, "(0, inf)")
        check_per_task("reference", reference)
        check_preferences(preferences, positive=True)
        self.mu = mu
        self.reference = reference
        self.preferences = preferences

    def solve(self, problem: Problem) -> Solution:
        """Compute the partial derivatives of the smooth maximum."""
        shares = shares_of(self.preferences, problem)
        gaps = problem.losses - per_task("reference", self.reference, problem, 0.0)
        terms = shares * gaps
        return Solution(shares * softmax((terms - terms.max()) / self.mu))  # avoids overflow
