"""GradCosine: helpers count by the cosine of their gradients with the main task's."""

from typing import final

import numpy as np

from gradbalance.numerics.checks import check_choice
from gradbalance.solvers.options import position_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class GradCosine(StatelessSolver):
    r"""Gradient cosine similarity: auxiliary tasks count as far as they point the main task's way.

    .. math:: w_m = 1, \qquad w_i = \max(0, \cos(g_m, g_i)) \;\text{ or }\; [\cos(g_m, g_i) \ge 0]

    with g_i the rows of J [T, P] and m the main task. A helper that opposes it is left out of the
    shared step; no weighted gradient opposes the main one, so the main task falls at least as fast
    as alone, to first order. `MainTask` takes out of the helpers only what opposes. The gate
    switches at a cosine of 0, near which noisy gradients often are.

    Args:
        main: the main task's name; the first task by default.
        weighted: whether helpers count by their cosine, or wholly.

    Raises:
        ValueError: an option is out of range, or there is no such task.

    Example:
        >>> import gradbalance as gb
        >>> gram = [[1.0, 0.6, -0.1], [0.6, 1.0, 0.0], [-0.1, 0.0, 1.0]]
        >>> gb.GradCosine().solve(gb.Problem.of(gram)).weights
        array([1. , 0.6, 0. ])

    References:
        Du et al. 2018, Adapting auxiliary losses using gradient similarity, arXiv 1812.02224.

    Deviation: none known. A gradient of zero has no cosine and counts nothing when weighted. Where
    the main task is absent or has no gradient, no helper counts.
    """

    needs = "gramian"
    weighs = "gradients"

    def __init__(self, main: str | None = None, *, weighted: bool = True) -> None:
        check_choice("weighted", weighted, [False, True])
        self.main = main
        self.weighted = weighted

    def solve(self, problem: Problem) -> Solution:
        """1 for the main task, cosines or gates for the others."""
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
