"""A run on numbers alone: the solver of each group of parameters, and the weights to be reused."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradbalance.numerics.array import Array
from gradbalance.solvers import AfterStep, EndEpoch, Solver, listeners
from gradbalance.step import (
    NonFinite,
    Scale,
    Step,
    ZeroGradients,
    reuse_step,
    see,
    skip_step,
    solve_step,
)


class Weighing:
    """From losses and Gramians to the steps of all groups, and from one step to the next.

    Args:
        solver: of the only group, or what each group gets a copy of, for it has a state of its own.
        groups: the names of the groups.
        scale: see `Balancer`, as for all that follow.
        zero_gradients: likewise.
        nonfinite: likewise.
        every: likewise.
    """

    def __init__(
        self,
        solver: Solver,
        groups: Sequence[str],
        *,
        scale: Scale | None,
        zero_gradients: ZeroGradients,
        nonfinite: NonFinite,
        every: int,
    ) -> None:
        alone = len(groups) == 1
        self.solvers = {group: solver if alone else copy.deepcopy(solver) for group in groups}
        self._scale: Scale | None = scale
        self._zero_gradients: ZeroGradients = zero_gradients
        self._nonfinite: NonFinite = nonfinite
        self._every = every
        self._last_weights: dict[str, dict[str, float]] = {}
        self._num_reused = 0

    def solve(
        self,
        losses: Mapping[str, float],
        grams: Mapping[str, Array | None],
        tasks: tuple[str, ...],
    ) -> dict[str, Step]:
        """A step for each group; changes no state.

        Args:
            losses: by task, of those that are present.
            grams: [t, t] by group, or None where it was not measured.
            tasks: all T tasks.

        Raises:
            ValueError: a loss or gradient is not finite under "raise", or a solver refuses.
        """
        squares = [np.diagonal(gram) for gram in grams.values() if gram is not None]
        total = np.sum(squares, axis=0) if squares else None
        seen = see(losses, total, tasks=tasks, nonfinite=self._nonfinite)
        return {
            group: solve_step(
                self.solvers[group],
                seen,
                gram,
                scale=self._scale,
                zero_gradients=self._zero_gradients,
            )
            for group, gram in grams.items()
        }

    def can_reuse(self, names: Mapping[str, object]) -> bool:
        """Whether the last weights serve for a step of these tasks."""
        if self._num_reused + 1 >= self._every or self._last_weights.keys() != self.solvers.keys():
            return False
        return all(weights.keys() >= names.keys() for weights in self._last_weights.values())

    def reuse(
        self, losses: Mapping[str, float], groups: Sequence[str], tasks: tuple[str, ...]
    ) -> dict[str, Step]:
        """A step for each group with the weights of the last one that was solved.

        Args:
            losses: by task, of those that are present.
            groups: those that a loss reaches.
            tasks: all T tasks.

        Raises:
            ValueError: a loss is not finite under "raise".
        """
        seen = see(losses, None, tasks=tasks, nonfinite=self._nonfinite)
        return {g: reuse_step(self.solvers[g], seen, self._last_weights[g]) for g in groups}

    def skip(
        self, losses: Mapping[str, float], groups: Sequence[str], tasks: tuple[str, ...]
    ) -> dict[str, Step]:
        """A step for each group that says that the scaled gradients overflowed; changes no state.

        Args:
            losses: by task, of those that are present.
            groups: those that a loss reaches.
            tasks: all T tasks.

        Raises:
            ValueError: a loss is not finite under "raise".
        """
        seen = see(losses, None, tasks=tasks, nonfinite=self._nonfinite)
        return {group: skip_step(self.solvers[group], seen) for group in groups}

    def remember(self, steps: Mapping[str, Step]) -> None:
        """Advance the solvers that solved, and keep their weights; called once they are applied."""
        if any(step.weights for step in steps.values()):
            self._num_reused += 1
        for group, step in steps.items():
            if step.problem is not None and step.solution is not None:
                self.solvers[group].update(step.problem, step.solution)
                self._last_weights[group] = {t: step.weights[t] for t in step.problem.names}
                self._num_reused = 0

    def wants_losses_after_step(self) -> bool:
        """Whether the weights in use were solved for, by a method that wants `after_step`."""
        listening = any(any(listeners(s, AfterStep)) for s in self.solvers.values())
        return listening and self._num_reused == 0

    def after_step(self, losses: Mapping[str, float]) -> None:
        """Tell the solvers the losses of the same batch after the optimizer's step."""
        for solver in self.solvers.values():
            for listener in listeners(solver, AfterStep):
                listener.after_step(losses)

    def end_epoch(self) -> None:
        """Tell the solvers that an epoch has ended."""
        for solver in self.solvers.values():
            for listener in listeners(solver, EndEpoch):
                listener.end_epoch()

    def state_dict(self) -> dict[str, Any]:
        """The solvers' states and the last weights, as plain Python values."""
        return {
            "solvers": {group: solver.state_dict() for group, solver in self.solvers.items()},
            "last_weights": {group: dict(kept) for group, kept in self._last_weights.items()},
            "num_reused": self._num_reused,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: the state is of other groups, or does not fit a solver.
        """
        if state["solvers"].keys() != self.solvers.keys():
            raise ValueError(
                f"the state is of the groups {list(state['solvers'])}, but this Balancer has "
                f"{list(self.solvers)}"
            )
        before = {group: solver.state_dict() for group, solver in self.solvers.items()}
        try:
            for group, solver in self.solvers.items():
                solver.load_state_dict(state["solvers"][group])
        except ValueError:
            for group, solver in self.solvers.items():  # a refused state changes nothing
                solver.load_state_dict(before[group])
            raise
        self._last_weights = {group: dict(kept) for group, kept in state["last_weights"].items()}
        self._num_reused = int(state["num_reused"])
