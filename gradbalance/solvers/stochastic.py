"""Base class of methods on independent batches: their weights follow a cross Gramian."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from gradbalance.numerics import nearest_in_simplex
from gradbalance.numerics.array import Array
from gradbalance.solvers.solver import Problem, Solution, Solver, State
from gradbalance.solvers.state import checked_state

Batches = Sequence[Sequence[str]]


class StochasticSolver(Solver):
    r"""Weights in the simplex that follow the cross Gramian J₁J₂ᵀ of two batches.

    The Gramian JJᵀ of a single batch is biased: the noise of its gradients enters twice, so the
    expectation of JJᵀw is not the value for the mean gradients. The product of two independent
    batches is unbiased. The losses of all batches are passed together, each with its own name.

    Args:
        batches: the names of the losses on two or three batches, with the tasks in the same order.
            With two batches, the step uses the mean of both; with three, the third. None for a
            single batch, with the bias.

    Raises:
        ValueError: the batches do not name the same number of tasks, or a name twice.
    """

    needs = "gramian"
    weighs = "gradients"

    def __init__(self, batches: Batches | None) -> None:
        if batches is not None:
            if not _are_lists_of_names(batches):
                raise ValueError(f"batches must be lists of names of losses; found {batches!r}")
            lengths = {len(names) for names in batches}
            names = [name for batch in batches for name in batch]
            if len(batches) not in (2, 3) or len(lengths) > 1 or len(set(names)) < len(names):
                raise ValueError(
                    f"batches must be two or three lists of as many names each, all different; "
                    f"found {batches!r}"
                )
        self.batches = batches
        self._weights: dict[str, float] = {}

    @abstractmethod
    def _followed(self, weights: Array, cross: Array) -> Array:
        """The next weights [t] in the simplex, from the previous ones and J₁J₂ᵀ [t, t]."""

    @abstractmethod
    def _applied(self, weights: Array) -> Array:
        """The weights [t] that are applied, from the weights in the simplex [t]."""

    @final
    def solve(self, problem: Problem) -> Solution:
        """Compute the weights after this step's move."""
        names, weights = self._after(problem)
        applied = dict(zip(names, self._applied(weights).tolist(), strict=True))
        return Solution(
            np.array([share * applied.get(key, 0.0) for key, share in self._of(problem)])
        )

    @final
    def update(self, problem: Problem, solution: Solution) -> None:
        """Keep the moved weights."""
        names, weights = self._after(problem)
        self._weights |= dict(zip(names, weights.tolist(), strict=True))

    def _after(self, problem: Problem) -> tuple[list[str], Array]:
        """The tasks, by their names on the first batch, and their weights."""
        places = {name: at for at, name in enumerate(problem.names)}
        if self.batches is None:
            names, first, second = list(places), list(places.values()), list(places.values())
        else:
            self._check(problem)
            present = [b for b in zip(*self.batches, strict=True) if places.keys() >= set(b)]
            names = [of_task[0] for of_task in present]
            first = [places[of_task[0]] for of_task in present]
            second = [places[of_task[1]] for of_task in present]
        if not names:
            return [], np.zeros(0)
        known = [self._weights.get(name, 1 / len(names)) for name in names]
        before = nearest_in_simplex(np.array(known))
        return names, self._followed(before, problem.gramian[np.ix_(first, second)])

    def _of(self, problem: Problem) -> list[tuple[str, float]]:
        """For each loss of this step, its task and its share of the task's weight."""
        if self.batches is None:
            return [(name, 1.0) for name in problem.names]
        shares = (0.5, 0.5) if len(self.batches) == 2 else (0.0, 0.0, 1.0)
        of_loss = {
            name: (task, share)
            for names, share in zip(self.batches, shares, strict=True)
            for name, task in zip(names, self.batches[0], strict=True)
        }
        return [of_loss[name] for name in problem.names]

    def _check(self, problem: Problem) -> None:
        named = {name for names in self.batches or () for name in names}
        if named != set(problem.tasks):
            raise ValueError(
                f"batches must name every loss; found {self.batches!r} for the losses "
                f"{list(problem.tasks)}"
            )

    @final
    def state_dict(self) -> State:
        """The weights, by the names of the tasks on the first batch."""
        return {"weights": dict(self._weights)}

    @final
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the saved weights."""
        self._weights = checked_state(self, state, {"weights": {str: "[0, 1]"}})["weights"]


def _are_lists_of_names(found: object) -> bool:
    if not isinstance(found, Sequence) or isinstance(found, str):
        return False
    lists = [names for names in found if isinstance(names, Sequence) and not isinstance(names, str)]
    names = [name for names in lists for name in names]
    return len(lists) == len(found) and all(isinstance(name, str) for name in names)
