"""Variables that some methods learn besides the model, with Adam: one per task, by name."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np

from gradbalance.numerics import adam_step
from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_number
from gradbalance.solvers.options import check_losses
from gradbalance.solvers.solver import Problem, Solution, Solver, State
from gradbalance.solvers.state import Shape, checked_state


class _Variable(NamedTuple):
    value: float
    moment: float = 0.0
    square: float = 0.0
    num_steps: int = 0


VARIABLES: Shape = {
    str: {"value": "(-inf, inf)", "moment": "(-inf, inf)", "square": "[0, inf)", "num_steps": int}
}


@final
class LearnedVariables:
    """One learned variable per task; those of absent tasks do not change.

    Args:
        start: the initial value for a new task.
    """

    def __init__(self, *, start: float = 0.0) -> None:
        self._new = _Variable(start)
        self._by_name: dict[str, _Variable] = {}

    def of(self, names: Sequence[str]) -> Array:
        """The variables [t] of these tasks."""
        return np.array([self._by_name.get(name, self._new).value for name in names])

    def descend(self, names: Sequence[str], gradient: Array, *, lr: float) -> None:
        """One step of Adam, without its ε, on the variables of these tasks."""
        before = [self._by_name.get(name, self._new) for name in names]
        values, moments, squares, num_steps = np.array(before).T
        values, (moments, squares) = adam_step(
            values, gradient, (moments, squares), num_steps, lr=lr
        )
        after = zip(values.tolist(), moments.tolist(), squares.tolist(), strict=True)
        for name, numbers, last in zip(names, after, before, strict=True):
            self._by_name[name] = _Variable(*numbers, last.num_steps + 1)

    def assign(self, names: Sequence[str], values: Array) -> None:
        """Set the values of variables that were moved before; their moments stay."""
        for name, value in zip(names, values.tolist(), strict=True):
            self._by_name[name] = self._by_name[name]._replace(value=value)

    def state_dict(self) -> State:
        """The value, moments and number of steps of every variable, by name."""
        return {name: variable._asdict() for name, variable in self._by_name.items()}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned, after it was checked for the shape `VARIABLES`."""
        self._by_name = {name: _Variable(**fields) for name, fields in state.items()}


class LearnedScales(Solver):
    r"""Weights c·e^s, learned so that all weighted losses approach the constant c of a method.

    .. math:: s \leftarrow s - \mathrm{lr} \cdot \mathrm{Adam}(e^s L - 1)

    with L [T] the losses and s [T], initially 0. Adam is used without its ε, so it takes the same
    steps for any c.
    """

    needs = "losses"
    weighs = "losses"
    takes_zero_losses = False

    def __init__(self, *, lr: float = 0.025) -> None:
        check_number("lr", lr, "(0, inf)")
        self.lr = lr
        self._log_scales = LearnedVariables()

    @property
    @abstractmethod
    def _at_rest(self) -> float:
        """c, the value of each weighted loss at the fixed point; a class attribute."""

    @final
    def solve(self, problem: Problem) -> Solution:
        """Return the present weights; c for a new task."""
        name = type(self).__name__
        check_losses(problem, f"{name} learns the logarithms of the losses", positive=True)
        return Solution(self._at_rest * np.exp(self._log_scales.of(problem.names)))

    @final
    def update(self, problem: Problem, solution: Solution) -> None:
        """Take one Adam step on the log scales."""
        gradient = np.exp(self._log_scales.of(problem.names)) * problem.losses - 1
        self._log_scales.descend(problem.names, gradient, lr=self.lr)

    @final
    def state_dict(self) -> State:
        """The log scales s and their moments, by name."""
        return {"log_scales": self._log_scales.state_dict()}

    @final
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the log scales and their moments."""
        state = checked_state(self, state, {"log_scales": VARIABLES})
        self._log_scales.load_state_dict(state["log_scales"])
