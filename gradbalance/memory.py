"""Commit: what is kept from one step to the next, the solvers' states and the last weights."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradbalance.report import Report
from gradbalance.solvers import AfterStep, EndEpoch, Problem, Solution, Solver
from gradbalance.solvers.hooks import listeners


@dataclass(frozen=True)
class Step:
    """What a step writes and remembers for one group of parameters.

    Attributes:
        report: for the user.
        weights: the weights that are written, by task; without the tasks that are left out.
        problem: the problem that was solved; None if there was none.
        solution: the solver's solution of it.
        relative_length: the norm of the direction over the summed norms of its terms; 0 if unknown.
    """

    report: Report
    weights: dict[str, float]
    problem: Problem | None = None
    solution: Solution | None = None
    relative_length: float = 0.0


class Memory:
    """The solvers of all groups of parameters, and their last weights.

    Args:
        solver: the solver; with groups, each gets a copy of it, with a state of its own.
        groups: the names of the groups; empty if all parameters are balanced together.
        every: for how many steps the weights of a solved step are used.
    """

    def __init__(self, solver: Solver, groups: Sequence[str], *, every: int) -> None:
        self.solvers = tuple(copy.deepcopy(solver) for _ in groups) or (solver,)
        self.groups = tuple(groups)
        self.weights: list[dict[str, float]] = [{} for _ in self.solvers]
        self._every = every
        self._num_reused = 0

    def can_reuse(self, names: Mapping[str, object]) -> bool:
        """Whether the last weights can be reused for a step of these tasks."""
        if self._num_reused + 1 >= self._every:
            return False
        return all(known and known.keys() >= names.keys() for known in self.weights)

    def commit(self, steps: Sequence[Step | None]) -> None:
        """Update the solvers that solved, and keep their weights; called once these are applied."""
        if any(step is not None and step.weights for step in steps):
            self._num_reused += 1
        for index, step in enumerate(steps):
            if step is not None and step.problem is not None and step.solution is not None:
                self.solvers[index].update(step.problem, step.solution)
                self.weights[index] = {t: step.weights[t] for t in step.problem.names}
                self._num_reused = 0

    @property
    def wants_after_step(self) -> bool:
        """Whether the last step was solved, by a method that needs `after_step`."""
        listening = any(True for solver in self.solvers for _ in listeners(solver, AfterStep))
        return listening and self._num_reused == 0

    def after_step(self, losses: Mapping[str, float]) -> None:
        """Pass the solvers the losses of the same batch after the optimizer's step."""
        for solver in self.solvers:
            for listener in listeners(solver, AfterStep):
                listener.after_step(losses)

    def end_epoch(self) -> None:
        """Tell the solvers that an epoch has ended."""
        for solver in self.solvers:
            for listener in listeners(solver, EndEpoch):
                listener.end_epoch()

    def state_dict(self) -> dict[str, Any]:
        """The solvers' states and the last weights, as plain Python values."""
        return {
            "groups": list(self.groups),
            "solvers": [solver.state_dict() for solver in self.solvers],
            "weights": [dict(known) for known in self.weights],
            "num_reused": self._num_reused,
        }

    def checked(self, state: Mapping[str, Any]) -> "Memory":
        """A copy of this memory that has loaded the state; this one does not change.

        Raises:
            ValueError: the state has other groups, is damaged, or does not fit a solver.
        """
        if set(state) != {"groups", "solvers", "weights", "num_reused"}:
            raise ValueError(f"not a state of a Balancer; found {sorted(state)}")
        if state["groups"] != list(self.groups):
            raise ValueError(
                f"the state is of the groups {state['groups']}, but this Balancer has "
                f"{list(self.groups)}"
            )
        num_reused, weights, states = state["num_reused"], state["weights"], state["solvers"]
        if not isinstance(states, list) or len(states) != len(self.solvers):
            raise ValueError(f"not the states of {len(self.solvers)} solvers; found {states}")
        if not _is_count(num_reused) or not _are_weights(weights, len(self.solvers)):
            raise ValueError(f"not the last weights of a Balancer; found {weights}, {num_reused}")
        loaded = copy.deepcopy(self)
        for solver, of_solver in zip(loaded.solvers, states, strict=True):
            solver.load_state_dict(of_solver)
        loaded.weights = [dict(known) for known in weights]
        loaded._num_reused = num_reused
        return loaded

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; the solvers stay the same objects."""
        loaded = self.checked(state)
        for solver, of_solver in zip(self.solvers, state["solvers"], strict=True):
            solver.load_state_dict(of_solver)
        self.weights, self._num_reused = loaded.weights, loaded._num_reused


def _is_count(found: object) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and found >= 0


def _are_weights(found: object, num_groups: int) -> bool:
    if not isinstance(found, list) or len(found) != num_groups:
        return False
    return all(
        isinstance(known, Mapping)
        and all(isinstance(w, float | int) and np.isfinite(w) for w in known.values())
        for known in found
    )
