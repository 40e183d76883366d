"""What every source of gradients does: it opens a step at the call, and answers in its backward."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from gradbalance.gradients.graph import Graph
from gradbalance.gradients.micro_batches import MicroBatches
from gradbalance.gradients.ranks import Ranks
from gradbalance.gradients.rounding import rounding_in
from gradbalance.numerics.array import Array

Heads = Literal["raw", "weighted"]
# The weights of each group, by task; None for a group that no loss reaches.
Weights = Sequence[Mapping[str, float] | None]


@dataclass(frozen=True)
class Request:
    """How a step is to be taken.

    Attributes:
        heads: whether what the tasks do not share gets "raw" or "weighted" gradients.
        reuse: whether the weights are likely known, so that nothing needs to be measured.
        retain_graph: whether the user wants to use the graph again.
        finite_only: whether a loss that is not finite takes no part.
        representation: what the user passed as the shared representation.
        earlier: the micro-batches that belong to the step.
        tasks: all T tasks.
    """

    heads: Heads
    reuse: bool = False
    retain_graph: bool = False
    finite_only: bool = False
    representation: Tensor | Sequence[Tensor] | None = None
    earlier: MicroBatches | None = None
    tasks: tuple[str, ...] = ()


class TaskGradients(ABC):
    """The gradients of one step's tasks, from the call of a `Balancer` to the end of its backward.

    Attributes:
        ends: the tensors over which the balanced loss stands: leaves, a representation, or the
            losses themselves. What `directions` returns for them, autograd carries on from there.
        graph: what lies behind the losses, where it was walked.
        found: what was found to be shared, and whether all tasks were there to find it from; None
            where nothing was looked for.
        rounding: what rounding does to a gradient, relative to its length: float32's, unless the
            source knows better. See `numerics.resolution`.
        sums_rows: whether Gramians are J Jᵀ of rows, by `Rows`, so that they need no check.
    """

    ends: Sequence[Tensor]
    graph: Graph | None = None
    found: tuple[Sequence[Tensor], bool] | None = None
    rounding: float = rounding_in(torch.float32)
    sums_rows: ClassVar[bool] = False

    @abstractmethod
    def shapes(self) -> object:
        """What must be the same on all ranks, such as the shapes of what is measured, in order.

        Asked for only where there are several. Its text is compared; None if nothing must be.

        Raises:
            ValueError: what is to be measured cannot be told.
        """

    @abstractmethod
    def replicas(self) -> Sequence[Tensor]:
        """The parameters that every rank has whole, and that training is to keep alike.

        Asked for at the first step only, where there are several ranks.
        """

    @abstractmethod
    def measure(self, factor: float, *, retain_graph: bool) -> None:
        """Differentiate as far as the Gramians need.

        Args:
            factor: the gradient that each loss receives.
            retain_graph: whether the graph must outlive the step.

        Raises:
            ValueError: the graph was freed, or does not hold what is to be measured.
        """

    @abstractmethod
    def grams(self, tasks: Sequence[str], ranks: Ranks | None) -> list[Tensor | None]:
        """The Gramian [t, t] of each group, times the square of the factor; None if not measured.

        Args:
            tasks: its rows and columns; those without a loss on this rank have zeros.
            ranks: the processes over which the gradients are means; None for this one alone.
        """

    def carried(self, weights: Weights, factor: float) -> Weights:
        """The weights as they act; those that pass through a loss are rounded to its dtype.

        Args:
            weights: by task, as a solver gave them.
            factor: as `measure` received it.

        Raises:
            ValueError: a loss's dtype cannot hold the weight; infinite instead where the factor is
                a loss scale, which is then to fall.
        """
        return weights

    def check(self, tasks: Sequence[str], grams: Iterable[Array]) -> None:
        """Warn where the numbers show that this source cannot compare these tasks.

        Args:
            tasks: the rows and columns.
            grams: of the groups that were measured, on the host.
        """
        return

    @abstractmethod
    def directions(
        self, weights: Weights, factor: float, *, retain_graph: bool, wide: bool
    ) -> list[Tensor | None]:
        """The gradient of each of the `ends`, factor · Σ w_i g_i; None where there is none.

        Args:
            weights: by task; a task that is left out takes no part, its head included.
            factor: as `measure` received it.
            retain_graph: whether the graph must outlive the step.
            wide: whether rows are summed in the widest dtype, for they nearly cancel.
        """


class Source(ABC):
    """Where the gradients that the tasks share come from.

    Attributes:
        measures_gramian: whether `TaskGradients.grams` gives Gramians.
        accumulates: whether several micro-batches can make one step.
        takes_representation: whether `balancer(losses, representation=z)` is for it.
    """

    measures_gramian: ClassVar[bool]
    accumulates: ClassVar[bool]
    takes_representation: ClassVar[bool]

    # What it was given, for its text.
    _text: str = ""

    @final
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._text})"

    @property
    @abstractmethod
    def groups(self) -> tuple[str, ...]:
        """The groups of parameters that are balanced each for itself; none where all are one."""

    @abstractmethod
    def open(self, losses: Mapping[str, Tensor], request: Request) -> TaskGradients:
        """Look at the graphs and say where the balanced loss stands; no value is looked at.

        Args:
            losses: by task, each a tensor of one element with a graph.
            request: how the step is to be taken.

        Raises:
            ValueError: the graph does not hold, or hides, what is to be measured.
        """

    @abstractmethod
    def commit(self, gradients: TaskGradients | None, *, freed: bool) -> None:
        """Remember what later steps need, once a step was written.

        Args:
            gradients: of that step; None where nothing was learned from it.
            freed: whether the graph was freed, and what belongs to it can be let go.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What decides later steps, as plain Python values."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; a state that does not fit raises ValueError."""


class StatelessSource(Source):
    """A source that remembers nothing from one step to the next."""

    @final
    def state_dict(self) -> dict[str, Any]:
        """Nothing to save."""
        return {}

    @final
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore, whatever another source remembered."""
