"""GLS: the geometric mean of the losses."""

from typing import final

import numpy as np

from gradbalance.solvers.options import check_losses
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver

_LARGEST_LOG = 700.0  # of a weight, so that the weight stays within float64


@final
class GLS(StatelessSolver):
    r"""Geometric loss strategy: minimises the geometric mean of the losses.

    .. math:: F = \Big( \prod_j L_j \Big)^{1/T}, \qquad
        w_i = \frac{\partial F}{\partial L_i} = \frac{F}{T L_i}

    with L [T] the losses, in any units: multiplying a loss by a constant changes F, but not the
    direction. No task's loss is guaranteed to decrease.

    Raises:
        ValueError: a loss is not positive.

    Example:
        >>> import gradbalance as gb
        >>> gb.GLS().solve(gb.Problem.of(losses=[1.0, 4.0])).weights
        array([1.  , 0.25])

    References:
        Chennupati et al. 2019, MultiNet++, arXiv 1904.08492.
    """

    needs = "losses"
    weighs = "losses"
    takes_zero_losses = False

    def solve(self, problem: Problem) -> Solution:
        """Compute the partial derivatives of the geometric mean."""
        check_losses(problem, "GLS takes a root of the product of the losses", positive=True)
        logs = np.log(problem.losses)  # the product itself may overflow
        return Solution(np.exp(np.minimum(logs.mean() - logs, _LARGEST_LOG)) / len(logs))
