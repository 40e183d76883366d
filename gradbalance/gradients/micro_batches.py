"""The micro-batches of one step: their losses and gradients, summed."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from gradbalance.gradients.autograd import differentiate_each
from gradbalance.gradients.graph import Graph
from gradbalance.gradients.rounding import rounding_of
from gradbalance.gradients.rows import Rows

# For each leaf, the tasks that reach it.
Reached = Mapping[Tensor, Sequence[str]]


class MicroBatches:
    """The sums over the micro-batches so far; empty at first.

    Attributes:
        losses: the summed losses, by task.
        rows: the summed gradients of every leaf, by task.
        reached_by: for each leaf, the tasks that reach it in any micro-batch.
        rounding: the largest relative rounding error of their gradients; see `TaskGradients`.
        tasks: all T tasks of the run.
    """

    def __init__(self) -> None:
        self.losses: dict[str, Tensor] = {}
        self.rows = Rows()
        self.reached_by: Reached = {}
        self.rounding = 0.0
        self.tasks: tuple[str, ...] = ()

    def total(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The summed losses including those of one more micro-batch, which is not added yet."""
        total = dict(self.losses)
        for task, loss in losses.items():
            total[task] = total[task] + loss.detach() if task in total else loss.detach()
        return total

    def add(self, losses: Mapping[str, Tensor], graph: Graph, loss_scale: float) -> None:
        """Differentiate a micro-batch with respect to all leaves, and free its graph.

        Args:
            losses: by task; some may be missing.
            graph: the autograd graph of the losses.
            loss_scale: the factor that gradients are computed with; they are stored without it.
        """
        self.rounding = max(self.rounding, rounding_of(losses, graph))
        inputs = {task: list(graph.leaves(task)) for task in losses}
        each = differentiate_each(losses, graph, inputs, factor=loss_scale, retain_graph=False)
        for task, gradients in each:
            self.rows.add(task, gradients, 1 / loss_scale)
        self.reached_by = joined(self.reached_by, graph.reached_by)
        self.losses = self.total(losses)


def joined(one: Reached, other: Reached) -> Reached:
    """For each leaf of either mapping, the tasks that reach it in either."""
    both = dict(one)
    for leaf, tasks in other.items():
        both[leaf] = tuple(dict.fromkeys((*both.get(leaf, ()), *tasks)))
    return both
