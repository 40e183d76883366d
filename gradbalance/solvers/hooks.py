"""Hooks of solvers that need more information than the losses of a step."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TypeVar

from gradbalance.solvers.solver import Solver


class AfterStep(ABC):
    """Interface of solvers that need the losses of the same batch after the optimizer's step."""

    @abstractmethod
    def after_step(self, losses: Mapping[str, float]) -> None:
        """Update the method's state, if weights were applied since the last call.

        Args:
            losses: by task, the losses of the batch that the last weights were computed for. A loss
                that is not finite is ignored.

        Raises:
            ValueError: the loss of a task that has a weight is missing.
        """


class EndEpoch(ABC):
    """Interface of solvers that need to know when an epoch ends."""

    @abstractmethod
    def end_epoch(self) -> None:
        """Finish the epoch, for example its mean losses.

        Raises:
            ValueError: no step was taken since the last call.
        """


Hook = TypeVar("Hook", AfterStep, EndEpoch)


def listeners(solver: Solver, hook: type[Hook]) -> Iterator[Hook]:
    """Iterate over a solver and the solvers that it wraps, if they implement a hook.

    Args:
        solver: the solver.
        hook: the interface, `AfterStep` or `EndEpoch`.

    Example:
        >>> import gradbalance as gb
        >>> list(gb.listeners(gb.CRMOGM(gb.DWA()), gb.EndEpoch))
        [DWA(temperature=2.0, max_epoch_steps=100000)]
    """
    if isinstance(solver, hook):
        yield solver
    for wrapped in solver.wrapped:
        yield from listeners(wrapped, hook)
