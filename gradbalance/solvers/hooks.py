"""What some methods must be told beyond the losses of a step."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TypeVar

from gradbalance.solvers.solver import Solver


class AfterStep(ABC):
    """A solver that needs the losses of the same batch again, after the optimizer's step."""

    @abstractmethod
    def after_step(self, losses: Mapping[str, float]) -> None:
        """Update the method's state, if weights were applied since the last call.

        Args:
            losses: by task, of the batch that the last weights were for; a loss that is not
                finite says nothing about its task.

        Raises:
            ValueError: a task of the last weights is missing.
        """


class EndEpoch(ABC):
    """A solver that needs to know where an epoch ends."""

    @abstractmethod
    def end_epoch(self) -> None:
        """Close the epoch's means.

        Raises:
            ValueError: no step was taken since the last call.
        """


Hook = TypeVar("Hook", AfterStep, EndEpoch)


def listeners(solver: Solver, hook: type[Hook]) -> Iterator[Hook]:
    """A solver, and the solvers that it wraps, as far as they have a hook.

    Args:
        solver: where to look.
        hook: `AfterStep` or `EndEpoch`.

    Example:
        >>> import gradbalance as gb
        >>> list(gb.listeners(gb.CRMOGM(gb.DWA()), gb.EndEpoch))
        [DWA(temperature=2.0, max_epoch_steps=100000)]
    """
    if isinstance(solver, hook):
        yield solver
    for wrapped in solver.wrapped:
        yield from listeners(wrapped, hook)
