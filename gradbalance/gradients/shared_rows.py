"""Rows of gradients over the parameters that the tasks share: to be written, or measured only."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from gradbalance.gradients.autograd import accumulate, differentiate_each, weighted_backward
from gradbalance.gradients.heads import HeadGradients
from gradbalance.gradients.ranks import Ranks
from gradbalance.gradients.rows import Rows
from gradbalance.gradients.sketch import SketchedRows
from gradbalance.gradients.source import Heads, TaskGradients


class SharedRows(TaskGradients):
    """One row a task over all shared parameters of a group.

    Args:
        shared: the parameters.
        rows: over them.
        heads: of the tasks, for one of the groups.
    """

    def __init__(self, shared: list[Tensor], rows: Rows, heads: HeadGradients | None) -> None:
        self._shared = list(shared)
        self._rows = rows
        self._heads = heads

    @classmethod
    def of(
        cls,
        losses: Mapping[str, Tensor],
        groups: Mapping[str, list[Tensor]],
        own: Mapping[str, list[Tensor]],
        *,
        heads: Heads,
        retain_graph: bool,
        chunk_size: int,
    ) -> "dict[str, TaskGradients]":
        """Measure the rows of all groups: one backward a task.

        Args:
            losses: by task.
            groups: the shared parameters by group.
            own: what each task does not share with the others.
            heads: see `Source.measure`.
            retain_graph: see `Source.measure`.
            chunk_size: see `SharedParameters`.
        """
        rows = {group: Rows(shared, losses) for group, shared in groups.items()}
        all_shared = [tensor for shared in groups.values() for tensor in shared]
        head_gradients = HeadGradients(heads)
        each = differentiate_each(
            losses, all_shared, own, retain_graph=retain_graph, chunk_size=chunk_size
        )
        for task, gradients, of_head in each:
            start = 0
            for group, shared in groups.items():
                rows[group].fill(task, gradients[start : start + len(shared)])
                start += len(shared)
            head_gradients.keep(task, own[task], of_head)
        first = next(iter(groups))
        return {
            group: cls(shared, rows[group], head_gradients if group == first else None)
            for group, shared in groups.items()
        }

    def add(self, other: "SharedRows") -> None:
        """Add the rows and the heads of another micro-batch."""
        known = {id(tensor) for tensor in self._shared}
        self._shared += [tensor for tensor in other._shared if id(tensor) not in known]
        self._rows.add(other._rows)
        if self._heads and other._heads:
            self._heads.add(other._heads)
        else:
            self._heads = self._heads or other._heads

    @property
    def num_columns(self) -> int:
        """The number of parameters of the group."""
        return self._rows.num_columns

    def gram(self, tasks: Sequence[str], ranks: Ranks | None = None) -> Tensor:
        """The Gramian over the group."""
        return self._rows.gram(tasks, ranks)

    def backward(self, weights: Mapping[str, float], *, zeros: bool = False) -> None:
        """Accumulate the rows' combination, and the heads'."""
        accumulate(self._shared, self._rows.combine(weights))
        if self._heads:
            self._heads.accumulate(weights, zeros=zeros)


class MeasuredOnly(TaskGradients):
    """Rows that serve for the Gramian only; one weighted backward does the writing.

    Args:
        losses: by task.
        shared: all shared parameters.
        measured: those of them that the rows are over.
        rows: over them, to be filled.
        own: what each task does not share with the others.
        heads: see `Source.measure`.
        retain_graph: see `Source.measure`.
        chunk_size: see `SharedParameters`.
    """

    def __init__(
        self,
        losses: Mapping[str, Tensor],
        shared: Sequence[Tensor],
        measured: Sequence[Tensor],
        rows: Rows | SketchedRows,
        own: Mapping[str, list[Tensor]],
        *,
        heads: Heads,
        retain_graph: bool,
        chunk_size: int,
    ) -> None:
        self._losses = losses
        self._shared = list(shared)
        self._retain_graph = retain_graph
        self._rows = rows
        # Weighted heads come with the weighted backward; raw ones lie on the way to the rows.
        self._heads = HeadGradients("raw") if heads == "raw" else None
        leaves = own if self._heads else dict.fromkeys(losses, ())
        each = differentiate_each(
            losses, measured, leaves, retain_graph=True, chunk_size=chunk_size
        )
        for task, gradients, of_head in each:
            self._rows.fill(task, gradients)
            if self._heads:
                self._heads.keep(task, own[task], of_head)

    @property
    def num_columns(self) -> int:
        """The number of parameters that are measured."""
        return self._rows.num_columns

    def gram(self, tasks: Sequence[str], ranks: Ranks | None = None) -> Tensor:
        """The Gramian of the rows."""
        return self._rows.gram(tasks, ranks)

    def backward(self, weights: Mapping[str, float], *, zeros: bool = False) -> None:
        """One weighted backward, and raw heads as they were measured."""
        weighted_backward(
            self._losses,
            weights,
            retain_graph=self._retain_graph,
            inputs=self._shared if self._heads else None,
        )
        if self._heads:
            self._heads.accumulate(weights, zeros=zeros)
