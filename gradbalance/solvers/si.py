"""SI: minimise the sum of the logarithms of the losses."""

from typing import final

from gradbalance.solvers.options import PerTask, check_losses, check_preferences, preferences_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class SI(StatelessSolver):
    r"""Scale-invariant baseline: minimises the sum of the logarithms of the losses.

    .. math:: F = \sum_j p_j \log L_j, \qquad
        w_i = \frac{\partial F}{\partial L_i} = \frac{p_i}{L_i}

    with L [T] the losses and p [T] the preferences, 1 by default. Multiplying a loss by a constant
    changes nothing at all. As a loss goes to 0, its weight grows without bound; use
    `Balancer(scale="sum")` to keep the step bounded. No task's loss is guaranteed to decrease.

    Args:
        preferences: one non-negative number per task, by name or in order; ones by default.

    Raises:
        ValueError: a loss is not positive, or preferences are negative, not finite or all zero, or
            do not fit the tasks.

    Example:
        >>> import gradbalance as gb
        >>> gb.SI().solve(gb.Problem.of(losses=[0.5, 4.0])).weights
        array([2.  , 0.25])

    References:
        The baseline "scale-invariant" in Navon et al. 2022, arXiv 2202.01017.
    """

    needs = "losses"
    weighs = "losses"
    takes_zero_losses = False

    def __init__(self, *, preferences: PerTask | None = None) -> None:
        check_preferences(preferences, positive=False)
        self.preferences = preferences

    def solve(self, problem: Problem) -> Solution:
        """Compute the preferences divided by the losses."""
        check_losses(problem, "SI takes logarithms of the losses", positive=True)
        return Solution(preferences_of(self.preferences, problem) / problem.losses)
