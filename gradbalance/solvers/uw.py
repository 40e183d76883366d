"""UW: losses weighted by a learned uncertainty of each task."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from gradbalance.solvers.checks import check_positive, check_positive_losses
from gradbalance.solvers.learned import LearnedVariables
from gradbalance.solvers.solver import Problem, Solution, Solver, State


@final
class UW(Solver):
    r"""Uncertainty weighting: each task has a learned log variance s.

    .. math::
        F = \sum_j \tfrac12 e^{-s_j} L_j + \tfrac12 s_j, \qquad
        w_i = \frac{\partial F}{\partial L_i} = \tfrac12 e^{-s_i}, \qquad
        s \leftarrow s - \mathrm{lr} \cdot \mathrm{Adam}\big( \tfrac12 (1 - e^{-s} L) \big)

    with L [T] the losses and s [T], 0 at first. At rest s_i = log L_i and w_i = 1/(2 L_i). The
    weights w(t) are applied and reported, then s is updated, in closed form and without weight
    decay, which would pull a weight towards ½. Promises no task a decrease.

    Args:
        lr: step of s, > 0. Adam remembers the large first gradients of a loss far above 1: at the
            default a loss of 10 is met within 10 % after 270 steps, one of 1000 after 4400. Divide
            such losses by a constant.

    Raises:
        ValueError: `lr` is out of range, or a loss is not positive (F has no minimum then).

    Example:
        >>> import gradbalance as gb
        >>> solver = gb.UW(lr=0.1)
        >>> problem = gb.Problem.of(losses=[2.0, 0.5])
        >>> solution = solver.solve(problem)
        >>> solution.weights
        array([0.5, 0.5])
        >>> solver.update(problem, solution)
        >>> solver.solve(problem).weights.round(3)
        array([0.452, 0.553])

    References:
        Kendall et al. 2018, arXiv 1705.07115.

    Deviation: all tasks take the form for regression (a classification has e^(−s) L + ½s in the
    paper). s has an Adam of its own, without its ε; published codes add it to the model's
    optimizer, and its weight decay with it.
    """

    needs = "losses"
    weighs = "losses"

    def __init__(self, *, lr: float = 0.025) -> None:
        check_positive("lr", lr)
        self.lr = lr
        self._log_variances = LearnedVariables()

    def solve(self, problem: Problem) -> Solution:
        """The present weights; ½ for a task that was not seen before."""
        check_positive_losses("UW", problem, "learns the logarithms of the losses")
        return Solution(0.5 * np.exp(-self._log_variances.of(problem.names)))

    def update(self, problem: Problem, solution: Solution) -> None:
        """One Adam step of the log variances."""
        weights = 0.5 * np.exp(-self._log_variances.of(problem.names))
        gradient = 0.5 - weights * problem.losses
        self._log_variances.descend(problem.names, gradient, lr=self.lr)

    def state_dict(self) -> State:
        """The log variances and their moments, by name."""
        return {"log_variances": self._log_variances.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the log variances and their moments."""
        if set(state) != {"log_variances"}:
            raise ValueError(f"UW's state has log_variances; found {sorted(state)}")
        self._log_variances.load_state_dict("UW", state["log_variances"])
