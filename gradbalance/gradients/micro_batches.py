"""Micro-batches that make one step together: their losses, gradients and graphs added up."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from gradbalance.gradients.autograd import differentiate_each
from gradbalance.gradients.graph import Graph
from gradbalance.gradients.rounding import rounding_of
from gradbalance.gradients.rows import Rows

# For each leaf the tasks that reach it.
Reached = Mapping[Tensor, Sequence[str]]


class MicroBatches:
    """The sums so far; empty at first.

    Attributes:
        losses: by task.
        rows: the gradients of every leaf, by task.
        reached_by: for each leaf the tasks that reach it in any of them.
        rounding: the largest of their gradients; see `TaskGradients`.
        tasks: all T tasks of the run.
    """

    def __init__(self) -> None:
        self.losses: dict[str, Tensor] = {}
        self.rows = Rows()
        self.reached_by: Reached = {}
        self.rounding = 0.0
        self.tasks: tuple[str, ...] = ()

    def total(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The sums with the losses of one more micro-batch, which is not added yet."""
        total = dict(self.losses)
        for task, loss in losses.items():
            total[task] = total[task] + loss.detach() if task in total else loss.detach()
        return total

    def add(self, losses: Mapping[str, Tensor], graph: Graph, loss_scale: float) -> None:
        """Differentiate a micro-batch by all that it reaches, and free its graph.

        Args:
            losses: by task; some may be missing.
            graph: behind them.
            loss_scale: what the gradients are computed with; they are kept without it.
        """
        self.rounding = max(self.rounding, rounding_of(losses, graph))
        inputs = {task: list(graph.leaves(task)) for task in losses}
        each = differentiate_each(losses, graph, inputs, factor=loss_scale, retain_graph=False)
        for task, gradients in each:
            self.rows.add(task, gradients, 1 / loss_scale)
        self.reached_by = joined(self.reached_by, graph.reached_by)
        self.losses = self.total(losses)


def joined(one: Reached, other: Reached) -> Reached:
    """For each leaf of either the tasks that reach it in either."""
    both = dict(one)
    for leaf, tasks in other.items():
        both[leaf] = tuple(dict.fromkeys((*both.get(leaf, ()), *tasks)))
    return both
