"""Rows of gradients over the parameters that the tasks share, or over a subset of them."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from gradbalance.gradients.autograd import accumulate, differentiate, weighted_backward
from gradbalance.gradients.heads import HeadGradients
from gradbalance.gradients.rows import Rows
from gradbalance.gradients.source import Heads, TaskGradients


class SharedRows(TaskGradients):
    """One row a task over all shared parameters of a group.

    Args:
        shared: the parameters.
        rows: over them.
        heads: of the tasks, for one of the groups.
    """

    def __init__(self, shared: list[Tensor], rows: Rows, heads: HeadGradients | None) -> None:
        self._shared = shared
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
    ) -> "dict[str, TaskGradients]":
        """Measure the rows of all groups: one backward a task.

        Args:
            losses: by task.
            groups: the shared parameters by group.
            own: what each task does not share with the others.
            heads: see `Source.measure`.
            retain_graph: see `Source.measure`.
        """
        rows = {group: Rows(shared, losses) for group, shared in groups.items()}
        all_shared = [tensor for shared in groups.values() for tensor in shared]
        head_gradients = HeadGradients(heads)
        last = list(losses)[-1]
        for task, loss in losses.items():
            retain = retain_graph or task != last
            gradients = differentiate(task, loss, [*all_shared, *own[task]], retain_graph=retain)
            start = 0
            for group, shared in groups.items():
                rows[group].fill(task, gradients[start : start + len(shared)])
                start += len(shared)
            head_gradients.keep(task, own[task], gradients[start:])
        first = next(iter(groups))
        return {
            group: cls(shared, rows[group], head_gradients if group == first else None)
            for group, shared in groups.items()
        }

    def gram(self) -> Tensor:
        """The Gramian over the group."""
        return self._rows.gram()

    def backward(self, weights: Mapping[str, float]) -> None:
        """Accumulate the rows' combination, and the heads'."""
        accumulate(self._shared, self._rows.combine(weights))
        if self._heads:
            self._heads.accumulate(weights)


class MeasuredSubset(TaskGradients):
    """Rows over a subset of the shared parameters; one weighted backward reaches the others.

    Args:
        losses: by task.
        shared: all shared parameters.
        measured: the subset.
        own: what each task does not share with the others.
        heads: see `Source.measure`.
        retain_graph: see `Source.measure`.
    """

    def __init__(
        self,
        losses: Mapping[str, Tensor],
        shared: Sequence[Tensor],
        measured: list[Tensor],
        own: Mapping[str, list[Tensor]],
        *,
        heads: Heads,
        retain_graph: bool,
    ) -> None:
        self._losses = losses
        self._shared = list(shared)
        self._retain_graph = retain_graph
        self._rows = Rows(measured, losses)
        # Weighted heads come with the weighted backward; raw ones lie on the way to the rows.
        self._heads = HeadGradients("raw") if heads == "raw" else None
        for task, loss in losses.items():
            leaves = own[task] if self._heads else []
            gradients = differentiate(task, loss, [*measured, *leaves], retain_graph=True)
            self._rows.fill(task, gradients[: len(measured)])
            if self._heads:
                self._heads.keep(task, leaves, gradients[len(measured) :])

    def gram(self) -> Tensor:
        """The Gramian over the subset."""
        return self._rows.gram()

    def backward(self, weights: Mapping[str, float]) -> None:
        """One weighted backward, and raw heads as they were measured."""
        weighted_backward(
            self._losses,
            weights,
            retain_graph=self._retain_graph,
            inputs=self._shared if self._heads else None,
        )
        if self._heads:
            self._heads.accumulate(weights)
