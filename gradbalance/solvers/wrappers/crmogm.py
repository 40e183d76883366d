"""CR-MOGM: a moving average of the weights of any method."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_number
from gradbalance.solvers.solver import Problem, Solution, Solver, State
from gradbalance.solvers.state import checked_state
from gradbalance.solvers.wrappers.wrapper import Reweighted


@final
class CRMOGM(Reweighted):
    r"""Correlation-reduced gradient manipulation: momentum on the weights of any method.

    .. math:: w(t) = \beta\, w(t-1) + (1 - \beta)\, \hat w(t), \qquad w(0) = \hat w(0)

    with ŵ(t) [T] the weights of the wrapped method. Weights computed from the same batch that they
    are applied to are correlated with its noise, which biases the direction; averaged weights are
    less correlated. No task's loss is guaranteed to decrease, whatever the wrapped method
    guarantees.

    Args:
        solver: the wrapped method.
        momentum: β in [0, 1); 0 gives the wrapped method itself.

    Raises:
        ValueError: `solver` is not a solver, or `momentum` is out of range.

    Example:
        >>> import gradbalance as gb
        >>> solver = gb.CRMOGM(gb.MGDA(), momentum=0.5)
        >>> first, second = gb.Problem.of([[1.0, 0.0], [0.0, 1.0]]), gb.Problem.of([[3, 0], [0, 1]])
        >>> solver.update(first, solver.solve(first))
        >>> solver.solve(second).weights
        array([0.375, 0.625])

    References:
        Zhou et al. 2022, On the convergence of stochastic multi-objective gradient manipulation
        and beyond, NeurIPS 2022.

    Deviation: the momentum is constant; the paper also lets it grow with the steps. A new task
    starts with its first weight, and an absent one keeps its average.
    """

    def __init__(self, solver: Solver, *, momentum: float = 0.9) -> None:
        super().__init__(solver)
        check_number("momentum", momentum, "[0, 1)")
        self.momentum = momentum
        self._weights: dict[str, float] = {}

    def changed(self, names: tuple[str, ...], weights: Array) -> Array:
        """Average the weights with the earlier ones."""
        pairs = zip(names, weights.tolist(), strict=True)
        last = np.array([self._weights.get(name, weight) for name, weight in pairs])
        averaged: Array = self.momentum * last + (1 - self.momentum) * weights
        return averaged

    def update(self, problem: Problem, solution: Solution) -> None:
        """Remember the averaged weights, and update the wrapped method."""
        super().update(problem, solution)
        self._weights |= dict(zip(problem.names, solution.weights.tolist(), strict=True))

    def state_dict(self) -> State:
        """The averaged weights by name, and the wrapped method's state."""
        return {"weights": dict(self._weights), **super().state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore both."""
        shape = {"weights": {str: "(-inf, inf)"}, "solver": object, "state": object}
        state = checked_state(self, state, shape)
        weights = state.pop("weights")
        super().load_state_dict(state)
        self._weights = weights
