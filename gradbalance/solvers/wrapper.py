"""What methods that change another method's weights have in common."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradbalance.numerics import Status
from gradbalance.numerics.array import Array
from gradbalance.solvers.solver import (
    Needs,
    Problem,
    Solution,
    Solver,
    State,
    StatelessSolver,
    Weighs,
)
from gradbalance.solvers.state import checked_state


class Wrapper(Solver):
    """A method that changes the weights of another one, which it holds.

    Args:
        solver: the other one.

    Raises:
        ValueError: `solver` is not a solver.
    """

    def __init__(self, solver: Solver) -> None:
        if not isinstance(solver, Solver):
            raise ValueError(f"solver must be a Solver such as MGDA(); found {solver!r}")
        self.solver = solver

    @abstractmethod
    def changed(self, names: tuple[str, ...], weights: Array) -> Array:
        """Of the wrapped method's weights [t] those that are applied; changes no state."""

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
        """The method's weights, changed, without a certificate.

        The status is the method's. Only `STATIONARY` speaks of the direction, not of how it was
        found, so it goes where the weights changed: a `Balancer` looks at every direction itself.
        """
        found = self.solver.solve(problem)
        weights, status = self.changed(problem.names, found.weights), found.status
        if status is Status.STATIONARY and not np.array_equal(weights, found.weights):
            status = Status.CONVERGED
        return Solution(weights, status, found.num_steps)

    def update(self, problem: Problem, solution: Solution) -> None:
        """Advance the wrapped method by its own weights, if it remembers anything."""
        if not isinstance(self.solver, StatelessSolver):
            self.solver.update(problem, self.solver.solve(problem))

    def state_dict(self) -> State:
        """The wrapped method's name and state."""
        return {"solver": type(self.solver).__name__, "state": self.solver.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the wrapped method's state."""
        state = checked_state(self, state, {"solver": object, "state": object})
        if state["solver"] != type(self.solver).__name__:
            raise ValueError(
                f"the state is of {type(self).__name__}({state['solver']}()), but this one wraps "
                f"{self.solver!r}"
            )
        self.solver.load_state_dict(state["state"])
