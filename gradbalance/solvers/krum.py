"""Krum: select the gradients that are closest to their neighbours."""

from typing import final

import numpy as np

from gradbalance.numerics.checks import check_count
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class Krum(StatelessSolver):
    r"""Krum and Multi-Krum: use only the gradients that are closest to their neighbours.

    .. math::
        s_i = \sum_{j \in N_i} \|g_i - g_j\|^2, \qquad
        w_i = \tfrac1m \;\text{ for the } m \text{ least } s_i, \; \text{ else } 0

    with g_i the rows of J [T, P], and N_i the T − f − 2 rows closest to g_i, without itself. The
    method was developed for distributed workers, of which f may be Byzantine and send arbitrary
    gradients; as a balancer, it leaves out outlier tasks. The Gramian suffices, since
    ‖g_i − g_j‖² = G_ii + G_jj − 2G_ij. No task's loss is guaranteed to decrease.

    Args:
        num_byzantine: f, the number of gradients that may be arbitrary.
        num_selected: m, the number of gradients that are selected; 1 is Krum, more is Multi-Krum.

    Raises:
        ValueError: an option is out of range, or the run has fewer than m tasks, or fewer than
            f + 3 tasks with f > 0.

    Example:
        >>> import numpy as np
        >>> import gradbalance as gb
        >>> jac = np.array([[1.0, 0.0], [1.1, 0.0], [1.0, 0.1], [-9.0, 9.0]])
        >>> gb.Krum(1, num_selected=2).solve(gb.Problem.of(jac @ jac.T)).weights
        array([0.5, 0.5, 0. , 0. ])

    References:
        Blanchard et al. 2017, Machine learning with adversaries, NeurIPS 2017, arXiv 1703.02757.

    Deviation: the theorem of the paper requires more than 2f + 2 gradients; here f + 3 suffice, as
    in TorchJD, which uses distances instead of their squares for the scores. If tasks are absent,
    fewer neighbours are used, but at least one; a single task gets the whole weight.
    """

    needs = "gramian"
    weighs = "gradients"

    def __init__(self, num_byzantine: int = 0, *, num_selected: int = 1) -> None:
        check_count("num_byzantine", num_byzantine)
        check_count("num_selected", num_selected, least=1)
        self.num_byzantine = int(num_byzantine)
        self.num_selected = int(num_selected)

    def solve(self, problem: Problem) -> Solution:
        """Compute weights: 1/m for the selected tasks; of equal scores the first is selected."""
        gram, num_tasks = problem.gramian, len(problem.names)
        least = max(self.num_byzantine + 3 if self.num_byzantine else 1, self.num_selected)
        if len(problem.tasks) < least:
            raise ValueError(
                f"{self!r} needs at least {least} tasks; found {list(problem.tasks)}. Lower "
                f"num_byzantine or num_selected"
            )
        squares = gram.diagonal()
        scale = squares.max() or 1.0
        distances = np.maximum(squares + squares[:, None] - 2 * gram, 0.0) / scale
        np.fill_diagonal(distances, 0.0)
        num_near = max(num_tasks - self.num_byzantine - 2, 1)
        # The first entry of each sorted row is the task itself, or a duplicate of it.
        scores = np.sort(distances, axis=1)[:, 1 : num_near + 1].sum(axis=1)
        chosen = np.argsort(scores, kind="stable")[: self.num_selected]
        weights = np.zeros(num_tasks)
        weights[chosen] = 1 / chosen.size
        return Solution(weights)
