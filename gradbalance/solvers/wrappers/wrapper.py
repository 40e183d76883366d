"""Base classes of methods that wrap another method."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

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
    """A method that wraps another method, and solves with it.

    Args:
        solver: the wrapped method.

    Raises:
        ValueError: `solver` is not a solver.
    """

    def __init__(self, solver: Solver) -> None:
        check_solver_instance("solver", solver)
        self.solver = solver

    @abstractmethod
    def _seen(self, problem: Problem) -> Problem:
        """The problem that the wrapped method solves; changes no state."""

    @property
    def needs(self) -> Needs:
        """What the wrapped method needs."""
        return self.solver.needs

    @property
    def weighs(self) -> Weighs:
        """What the wrapped method's weights apply to."""
        return self.solver.weighs

    @property
    def takes_zero_losses(self) -> bool:
        """Whether the wrapped method can handle losses of exactly 0."""
        return self.solver.takes_zero_losses

    def update(self, problem: Problem, solution: Solution) -> None:
        """Update the wrapped method with its own problem and solution, if it has a state."""
        if not isinstance(self.solver, StatelessSolver):
            seen = self._seen(problem)
            self.solver.update(seen, self.solver.solve(seen))

    def state_dict(self) -> State:
        """The wrapped method's name and state."""
        return state_of(self.solver)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the wrapped method's state."""
        load_state(self, self.solver, checked_state(self, state, HELD))


class Reweighted(Wrapper):
    """A method that changes the weights of another one."""

    @abstractmethod
    def changed(self, names: tuple[str, ...], weights: Array) -> Array:
        """The weights [t] to apply, from those of the wrapped method [t]; changes no state."""

    @final
    def _seen(self, problem: Problem) -> Problem:
        return problem

    @final
    def solve(self, problem: Problem) -> Solution:
        """Return the changed weights of the wrapped method, without a certificate.

        The status is that of the wrapped method, except `STATIONARY` if the weights changed: that
        is a statement about the direction, and a `Balancer` checks every direction itself.
        """
        found = self.solver.solve(problem)
        weights, status = self.changed(problem.names, found.weights), found.status
        if status is Status.STATIONARY and not np.array_equal(weights, found.weights):
            status = Status.CONVERGED
        return replace(found, weights=weights, status=status, certificate=None)


HELD = {"solver": object, "state": object}  # The shape of what `state_of` returns.


def state_of(solver: Solver) -> State:
    """The name and the state of a wrapped method."""
    return {"solver": solver.name, "state": solver.state_dict()}


def load_state(holder: Solver, solver: Solver, state: Mapping[str, Any]) -> None:
    """Restore what `state_of` returned.

    Raises:
        ValueError: the state is of another method, or does not fit; nothing changes then.
    """
    if state["solver"] != solver.name:
        raise ValueError(
            f"the state is of {type(holder).__name__}({state['solver']}), but this one wraps "
            f"{solver!r}"
        )
    solver.load_state_dict(state["state"])


def check_solver_instance(argument: str, found: object) -> None:
    """Raise a ValueError unless an argument is a solver."""
    if not isinstance(found, Solver):
        raise ValueError(f"{argument} must be a Solver such as MGDA(); found {found!r}")


def check_needs_gramian(argument: str, solver: Solver, *, such_as: str) -> None:
    """Raise a ValueError unless a solver needs the Gramian."""
    if solver.needs == "losses":
        raise ValueError(
            f"{argument} must be a method on the Gramian, such as {such_as}; found {solver!r}, "
            f"which looks at the losses only"
        )
