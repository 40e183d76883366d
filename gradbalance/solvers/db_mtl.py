"""DB-MTL: take logarithms of the losses, and gradients of equal length."""

from typing import final

import numpy as np

from gradbalance.solvers.options import check_losses
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class DBMTL(StatelessSolver):
    r"""Dual balancing: scale the gradients of the log losses to the length of the longest.

    .. math:: w_i = \frac{1}{s_i} \max_k \frac{s_k}{L_k}, \qquad s_i = \|g_i\|

    with g_i the rows of J [T, P] and L [T] the losses; s_i/L_i is the norm of the gradient of
    log L_i. All weighted gradients w_i g_i then have the same length, except zero gradients, which
    keep the weight 1/L_i of the log loss. As a loss goes to 0, all weights grow without bound; use
    `Balancer(scale="norm")` to keep the step bounded. No task's loss is guaranteed to decrease.

    Raises:
        ValueError: a loss is not positive.

    Example:
        >>> import gradbalance as gb
        >>> gb.DBMTL().solve(gb.Problem.of([[4.0, 0.0], [0.0, 1.0]], losses=[1.0, 2.0])).weights
        array([1., 2.])

    References:
        Lin et al. 2023, arXiv 2308.12029.

    Deviation: the gradients of the present step are used, not their moving average (the paper's
    β = 0), because an average would require storing J between steps. By default each head gets the
    raw gradient of its loss; in the official code it gets that of log L_i, which is 1/L_i of it.
    """

    needs = "gramian"
    weighs = "gradients"
    takes_zero_losses = False

    def solve(self, problem: Problem) -> Solution:
        """Divide the norm of the longest log gradient by the norm of each raw gradient."""
        check_losses(problem, "DBMTL takes logarithms of the losses", positive=True)
        norms = np.sqrt(np.diagonal(problem.gramian))
        longest = (norms / problem.losses).max()
        zero = norms == 0
        return Solution(np.where(zero, 1 / problem.losses, longest / np.where(zero, 1.0, norms)))
