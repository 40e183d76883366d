"""Micro-batches that make one step together: their losses, gradients and graphs added up."""

from collections.abc import Mapping

from torch import Tensor

from gradbalance.gradients.autograd import differentiate_each
from gradbalance.gradients.graph import Graph
from gradbalance.gradients.rounding import rounding_of
from gradbalance.gradients.rows import Rows

# For each task the leaves that it reaches, as the keys of a dictionary.
Reached = Mapping[str, Mapping[Tensor, None]]


class MicroBatches:
    """The sums so far; empty at first.

    Attributes:
        losses: by task.
        rows: the gradients of every leaf, by task.
        rounding: the largest of their gradients; see `TaskGradients`.
        tasks: all T tasks of the run.
    """

    def __init__(self) -> None:
        self.losses: dict[str, Tensor] = {}
        self.rows = Rows()
        self.rounding = 0.0
        self.tasks: tuple[str, ...] = ()

    @property
    def all_leaves(self) -> dict[Tensor, None]:
        """What any task reaches."""
        return {leaf: None for leaves in self.rows.reached.values() for leaf in leaves}

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
        inputs = {task: list(leaves) for task, leaves in graph.leaves.items()}
        each = differentiate_each(losses, graph, inputs, factor=loss_scale, retain_graph=False)
        for task, gradients in each:
            self.rows.add(task, graph.leaves[task], gradients, 1 / loss_scale)
        self.losses = self.total(losses)
