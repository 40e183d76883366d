"""What every source of gradients does: it measures a step's gradients, or reuses known weights."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from torch import Tensor

from gradbalance.gradients.ranks import Ranks

Heads = Literal["raw", "weighted"]


class TaskGradients(ABC):
    """The gradients of one step's tasks over one group; lives until they are written."""

    @property
    @abstractmethod
    def num_columns(self) -> int:
        """The length of a row, where it must be the same on all ranks; 0 where it need not be."""

    @abstractmethod
    def gram(self, tasks: Sequence[str], ranks: Ranks | None = None) -> Tensor | None:
        """The Gramian [t, t], on the losses' device; None if it is not measured.

        Args:
            tasks: its rows and columns; those without a loss on this rank have zeros.
            ranks: the processes over which the gradients are means; None for this one alone.
        """

    @abstractmethod
    def backward(self, weights: Mapping[str, float], *, zeros: bool = False) -> None:
        """Accumulate Σ w_i g_i into `.grad`, hooks firing as in `Tensor.backward`.

        Args:
            weights: by task; a task that is left out takes no part, its head included.
            zeros: whether such a head that was measured gets zeros, lest DDP wait for it.
        """


class Source(ABC):
    """Where the gradients that the tasks share come from.

    Attributes:
        measures_gramian: whether `TaskGradients.gram` gives a Gramian; a class attribute.
    """

    measures_gramian: ClassVar[bool]

    @property
    @abstractmethod
    def accumulates(self) -> bool:
        """Whether what it measures can be summed over micro-batches, and written in the end."""

    @property
    @abstractmethod
    def groups(self) -> tuple[str, ...]:
        """The groups of parameters that are balanced each for itself; ("",) for one that is all."""

    @abstractmethod
    def measure(
        self, losses: Mapping[str, Tensor], *, heads: Heads, retain_graph: bool
    ) -> dict[str, TaskGradients]:
        """Differentiate as far as the Gramian needs; writes nothing.

        Args:
            losses: by task, each a tensor of one element with a graph.
            heads: whether what the tasks do not share gets "raw" or "weighted" gradients.
            retain_graph: whether the graph must outlive the step.

        Returns:
            The gradients by group, of those groups that a loss reaches.

        Raises:
            ValueError: the graph was freed, or does not hold what is to be measured.
        """

    @abstractmethod
    def reuse(
        self, losses: Mapping[str, Tensor], *, heads: Heads, retain_graph: bool
    ) -> dict[str, TaskGradients]:
        """A step whose weights are known: as `measure`, but `gram` gives None.

        Args:
            losses: as for `measure`.
            heads: as for `measure`.
            retain_graph: as for `measure`.

        Raises:
            ValueError: the graph does not hold what is to be weighted.
        """
