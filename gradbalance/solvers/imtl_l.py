"""IMTL-L: learned scales that bring all losses to 1."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from gradbalance.solvers.checks import check_positive, check_positive_losses
from gradbalance.solvers.learned import LearnedVariables
from gradbalance.solvers.solver import Problem, Solution, Solver, State


@final
class IMTLL(Solver):
    r"""Impartial multi-task learning, the loss balance: learned scales bring all losses to 1.

    .. math::
        F = \sum_j e^{s_j} L_j - s_j, \qquad
        w_i = \frac{\partial F}{\partial L_i} = e^{s_i}, \qquad
        s \leftarrow s - \mathrm{lr} \cdot \mathrm{Adam}(e^{s} L - 1)

    with L [T] the losses and s [T], 0 at first. At rest w_i L_i = 1. The weights w(t) are applied
    and reported, then s is updated, in closed form and without weight decay. Promises no task a
    decrease.

    Args:
        lr: step of s, > 0. Adam remembers the large first gradients of a loss far above 1: at the
            default a loss of 10 is met within 10 % after 270 steps, one of 1000 after 4400. Divide
            such losses by a constant.

    Raises:
        ValueError: `lr` is out of range, or a loss is not positive (F has no minimum then).

    Example:
        >>> import gradbalance as gb
        >>> solver = gb.IMTLL(lr=0.1)
        >>> problem = gb.Problem.of(losses=[2.0, 0.5])
        >>> solution = solver.solve(problem)
        >>> solution.weights
        array([1., 1.])
        >>> solver.update(problem, solution)
        >>> solver.solve(problem).weights.round(3)
        array([0.905, 1.105])

    References:
        Liu et al. 2021, Towards impartial multi-task learning, ICLR 2021. `UW` (arXiv 1705.07115)
        is the same with s = −s and half the weights.

    Deviation: s has an Adam of its own, without its ε, instead of the model's optimizer.
    """

    needs = "losses"
    weighs = "losses"

    def __init__(self, *, lr: float = 0.025) -> None:
        check_positive("lr", lr)
        self.lr = lr
        self._log_scales = LearnedVariables()

    def solve(self, problem: Problem) -> Solution:
        """The present scales; 1 for a task that was not seen before."""
        check_positive_losses("IMTLL", problem, "learns the logarithms of the losses")
        return Solution(np.exp(self._log_scales.of(problem.names)))

    def update(self, problem: Problem, solution: Solution) -> None:
        """One Adam step of the log scales."""
        scales = np.exp(self._log_scales.of(problem.names))
        self._log_scales.descend(problem.names, scales * problem.losses - 1, lr=self.lr)

    def state_dict(self) -> State:
        """The log scales and their moments, by name."""
        return {"log_scales": self._log_scales.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the log scales and their moments."""
        if set(state) != {"log_scales"}:
            raise ValueError(f"IMTLL's state has log_scales; found {sorted(state)}")
        self._log_scales.load_state_dict("IMTLL", state["log_scales"])
