"""GradCosine: weight auxiliary tasks by the cosine of their gradients with the main task's."""

from typing import final

import numpy as np

from gradbalance.numerics.checks import check_choice
from gradbalance.solvers.options import position_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class GradCosine(StatelessSolver):
    r"""Gradient cosine similarity: auxiliary tasks count as far as they agree with the main task.

    .. math:: w_m = 1, \qquad w_i = \max(0, \cos(g_m, g_i)) \;\text{ or }\; [\cos(g_m, g_i) \ge 0]

    with g_i the rows of J [T, P] and m the main task. An auxiliary task that opposes the main task
    gets the weight 0. No weighted gradient then opposes the main one, so the main task's loss
    decreases at least as fast as if it were trained alone, to first order. In contrast, `MainTask`
    removes only the opposing component. The weights switch at a cosine of 0, and noisy gradients
    often have cosines near 0.

    Args:
        main: the name of the main task; the first task by default.
        weighted: True to weight auxiliary tasks by their cosine, False for weights of 1 or 0.

    Raises:
        ValueError: an option is out of range, or there is no such task.

    Example:
        >>> import gradbalance as gb
        >>> gram = [[1.0, 0.6, -0.1], [0.6, 1.0, 0.0], [-0.1, 0.0, 1.0]]
        >>> gb.GradCosine().solve(gb.Problem.of(gram)).weights
        array([1. , 0.6, 0. ])

    References:
        Du et al. 2018, Adapting auxiliary losses using gradient similarity, arXiv 1812.02224.

    Deviation: none known. A zero gradient has no cosine, and gets the weight 0 if `weighted`. If
    the main task is absent or has a zero gradient, auxiliary tasks get the weight 0.
    """

    needs = "gramian"
    weighs = "gradients"

    def __init__(self, main: str | None = None, *, weighted: bool = True) -> None:
        check_choice("weighted", weighted, [False, True])
        self.main = main
        self.weighted = weighted

    def solve(self, problem: Problem) -> Solution:
        """Compute weights: 1 for the main task, and cosines, or 1 or 0, for the others."""
        gram, weights = problem.gramian, np.zeros(len(problem.names))
        main = position_of("main", self.main, problem)
        if main is not None:
            norms = np.sqrt(gram.diagonal())
            products = norms * norms[main]
            cosines = gram[main] / np.where(products > 0, products, 1.0)
            weights = np.clip(cosines, 0.0, 1.0) if self.weighted else 1.0 * (cosines >= 0)
            if norms[main] == 0:
                weights[:] = 0.0
            weights[main] = 1.0
        return Solution(weights)
