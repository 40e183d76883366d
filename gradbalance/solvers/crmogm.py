"""CR-MOGM: any method's weights, averaged over the steps."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from gradbalance.numerics.checks import check_number
from gradbalance.solvers.solver import Needs, Problem, Solution, Solver, State, Weighs
from gradbalance.solvers.state import checked_state


@final
class CRMOGM(Solver):
    r"""Correlation-reduced gradient manipulation: momentum on the weights of any method.

    .. math:: w(t) = \beta\, w(t-1) + (1 - \beta)\, \hat w(t), \qquad w(0) = \hat w(0)

    with ŵ(t) [T] the weights of the wrapped method. Weights that are solved for on the very batch
    that they are applied to are correlated with its noise, which biases the direction; averaged
    ones less so. Promises no task a decrease, whatever the method promises.

    Args:
        solver: the method.
        momentum: β in [0, 1); 0 is the method itself.

    Raises:
        ValueError: `solver` is none, or `momentum` is out of range.

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

    Deviation: momentum is a constant; the paper also lets it grow with the steps. A task that was
    not seen before starts with its first weight, and one that is absent keeps its own.
    """

    def __init__(self, solver: Solver, *, momentum: float = 0.9) -> None:
        if not isinstance(solver, Solver):
            raise ValueError(f"solver must be a Solver such as MGDA(); found {solver!r}")
        check_number("momentum", momentum, "[0, 1)")
        self.solver = solver
        self.momentum = momentum
        self._weights: dict[str, float] = {}

    @property
    def needs(self) -> Needs:
        """What the wrapped method needs."""
        return self.solver.needs

    @property
    def weighs(self) -> Weighs:
        """What the wrapped method's weights belong to."""
        return self.solver.weighs

    @property
    def takes_zero_losses(self) -> bool:
        """Whether the wrapped method takes losses of exactly 0."""
        return self.solver.takes_zero_losses

    def solve(self, problem: Problem) -> Solution:
        """The method's weights, averaged with those before; its status, but no certificate."""
        solution = self.solver.solve(problem)
        pairs = zip(problem.names, solution.weights.tolist(), strict=True)
        last = np.array([self._weights.get(name, weight) for name, weight in pairs])
        weights = self.momentum * last + (1 - self.momentum) * solution.weights
        return Solution(weights, solution.status, solution.num_steps)

    def update(self, problem: Problem, solution: Solution) -> None:
        """Remember the averaged weights, and advance the method."""
        self.solver.update(problem, self.solver.solve(problem))
        self._weights |= dict(zip(problem.names, solution.weights.tolist(), strict=True))

    def state_dict(self) -> State:
        """The averaged weights by name, and the method's own state."""
        return {
            "weights": dict(self._weights),
            "solver": type(self.solver).__name__,
            "state": self.solver.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore both."""
        shape = {"weights": {str: "(-inf, inf)"}, "solver": object, "state": object}
        state = checked_state(self, state, shape)
        if state["solver"] != type(self.solver).__name__:
            raise ValueError(
                f"the state is of CRMOGM({state['solver']}()), but this one wraps {self.solver!r}"
            )
        self.solver.load_state_dict(state["state"])
        self._weights = state["weights"]
