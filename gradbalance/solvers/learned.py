"""What some methods learn beside the model: one variable a task, kept by name, moved by Adam."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gradbalance.numerics import adam_step
from gradbalance.numerics.array import Array


@dataclass
class _Variable:
    value: float = 0.0
    moment: float = 0.0
    square: float = 0.0
    num_steps: int = 0


class LearnedVariables:
    """One variable a task, 0 at first; those of absent tasks stay as they are."""

    def __init__(self) -> None:
        self._by_name: dict[str, _Variable] = {}

    def of(self, names: Sequence[str]) -> Array:
        """The variables [t] of these tasks."""
        known = self._by_name
        return np.array([known[name].value if name in known else 0.0 for name in names])

    def descend(self, names: Sequence[str], gradient: Array, *, lr: float) -> None:
        """One step of Adam, without its ε, on the variables of these tasks."""
        variables = [self._by_name.setdefault(name, _Variable()) for name in names]
        values, (moments, squares) = adam_step(
            [variable.value for variable in variables],
            gradient,
            ([variable.moment for variable in variables], [v.square for v in variables]),
            [variable.num_steps for variable in variables],
            lr=lr,
        )
        for variable, value, moment, square in zip(
            variables, values.tolist(), moments.tolist(), squares.tolist(), strict=True
        ):
            variable.value, variable.moment, variable.square = value, moment, square
            variable.num_steps += 1

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """Value, moments and number of steps of every variable, by name."""
        return {name: asdict(variable) for name, variable in self._by_name.items()}

    def load_state_dict(self, method: str, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: the state is of something else; nothing was changed then.
        """
        try:
            by_name = {name: _Variable(**fields) for name, fields in state.items()}
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not a state of {method}: {error}") from error
        self._by_name = by_name
