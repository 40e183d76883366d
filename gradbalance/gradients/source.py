"""The interface of sources: they open a step at the call, and give gradients in its backward."""

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
    """How to take a step.

    Attributes:
        heads: whether the parameters that are not shared get "raw" or "weighted" gradients.
        reuse: whether the weights are probably known already, so that nothing must be measured.
        retain_graph: whether the user needs the graph again.
        finite_only: whether tasks whose loss is not finite are left out.
        representation: the shared representation that the user passed, if any.
        earlier: the earlier micro-batches of this step.
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
    r"""The gradients of the tasks in one step, from the call of a `Balancer` to its backward's end.

    .. math:: G_{ij} = u^2 \langle g_i, g_j \rangle, \qquad d = u \sum_i w_i g_i

    with g_i [P] the gradient of task i, w [T] the weights, and u (`factor`) the gradient that the
    balanced loss receives. `measure` computes the gradients, `grams` returns G, and `directions` d.

    Attributes:
        ends: the tensors at which the backward of the balanced loss ends: leaves, a representation,
            or the losses themselves. Autograd continues from there, with the gradients that
            `directions` returns.
        graph: the autograd graph of the losses, if it was traversed.
        found: the parameters found to be shared, and whether all tasks were present to find them;
            None if they were not searched for.
        rounding: the relative rounding error of a gradient: that of float32, unless the source
            knows it better. See `numerics.resolution`.
        sums_rows: whether Gramians are computed as J Jᵀ by `Rows`, so that they need no check.
    """

    ends: Sequence[Tensor]
    graph: Graph | None = None
    found: tuple[Sequence[Tensor], bool] | None = None
    rounding: float = rounding_in(torch.float32)
    sums_rows: ClassVar[bool] = False

    @abstractmethod
    def shapes(self) -> object:
        """Describe what must be the same on all ranks, such as the shapes of measured tensors.

        Called only with several ranks, which compare its text.

        Returns:
            An object with a `repr`; None if nothing must be the same.

        Raises:
            ValueError: it cannot be determined what to measure.
        """

    @abstractmethod
    def replicas(self) -> Sequence[Tensor]:
        """List the parameters of which every rank has a full copy that must stay equal.

        Called only with several ranks, at the first step.
        """

    @abstractmethod
    def measure(self, factor: float, *, retain_graph: bool) -> None:
        """Compute the gradients that the Gramians need.

        Args:
            factor: the gradient that each loss receives.
            retain_graph: whether the graph is kept after the step.

        Raises:
            ValueError: the graph was freed, or does not contain what must be measured.
        """

    @abstractmethod
    def grams(self, tasks: Sequence[str], ranks: Ranks | None) -> list[Tensor | None]:
        """Return the Gramian [t, t] of each group, times the factor squared; None if not measured.

        Args:
            tasks: the t tasks, in the order of rows and columns; a task without a loss on this rank
                has zeros.
            ranks: the processes over which gradients are averaged; None for this one alone.
        """

    def carried(self, weights: Weights, factor: float) -> Weights:
        """Return the weights as they act: rounded to a loss's dtype if they pass through the loss.

        A weight that overflows because of the factor, a loss scale, becomes infinite: the loss
        scaler should then lower its scale.

        Args:
            weights: by group and task, as the solvers returned them.
            factor: as `measure` received it.

        Raises:
            ValueError: a weight by itself is too large for the dtype of its loss.
        """
        return weights

    def check(self, tasks: Sequence[str], grams: Iterable[Array]) -> None:
        """Warn if the Gramians show that this source cannot compare these tasks.

        Args:
            tasks: the tasks, in the order of rows and columns.
            grams: the Gramians of the measured groups, on the host.
        """
        return

    @abstractmethod
    def directions(
        self, weights: Weights, factor: float, *, retain_graph: bool, wide: bool
    ) -> list[Tensor | None]:
        """Return the gradient of each of the `ends`, factor · Σ w_i g_i; None where there is none.

        Args:
            weights: by group and task; a task without a weight is left out, head included.
            factor: as `measure` received it.
            retain_graph: whether the graph is kept after the step.
            wide: whether rows are summed in the widest dtype, because they nearly cancel.
        """


class Source(ABC):
    """Interface of a source: it computes the tasks' gradients for a `Balancer`.

    `open` is called with the losses of each step, and `commit` once the step is written.

    Attributes:
        measures_gramian: whether `TaskGradients.grams` returns Gramians.
        accumulates: whether several micro-batches can be accumulated into one step.
        takes_representation: whether it accepts `balancer(losses, representation=z)`.
    """

    measures_gramian: ClassVar[bool]
    accumulates: ClassVar[bool]
    takes_representation: ClassVar[bool]

    # The arguments it was built with, for its repr.
    _text: str = ""

    @final
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._text})"

    @property
    @abstractmethod
    def groups(self) -> tuple[str, ...]:
        """The names of the groups of parameters that are balanced separately; empty without."""

    @abstractmethod
    def open(self, losses: Mapping[str, Tensor], request: Request) -> TaskGradients:
        """Open a step: inspect the autograd graphs, but no values.

        Args:
            losses: by task, each a tensor of one element with a graph.
            request: how to take the step.

        Returns:
            The gradients of this step, not computed yet.

        Raises:
            ValueError: the graph does not contain, or hides, what must be measured.
        """

    @abstractmethod
    def commit(self, gradients: TaskGradients | None, *, freed: bool) -> None:
        """Remember what later steps need, after a step was written.

        Args:
            gradients: those of that step; None if the step was skipped.
            freed: whether the graph was freed, so that references to it can be dropped.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return the state that affects later steps, as plain Python values."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; raises ValueError if the state does not fit."""


class StatelessSource(Source):
    """A source that remembers nothing from one step to the next."""

    @final
    def state_dict(self) -> dict[str, Any]:
        """Nothing to save."""
        return {}

    @final
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore; the state of any other source is accepted."""
