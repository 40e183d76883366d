"""Rows and losses that are summed over micro-batches until a step is solved."""

from collections.abc import Mapping

from torch import Tensor

from gradbalance.gradients.shared_rows import SharedRows
from gradbalance.gradients.source import TaskGradients


class Accumulated:
    """The sums over the micro-batches so far; empty at first."""

    def __init__(self) -> None:
        self.losses: dict[str, Tensor] = {}
        self.gradients: dict[str, TaskGradients] = {}

    def total(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The sums with the losses of one more micro-batch, which is not added yet."""
        total = dict(self.losses)
        for task, loss in losses.items():
            total[task] = total[task] + loss.detach() if task in total else loss.detach()
        return total

    def add(self, losses: Mapping[str, Tensor], gradients: Mapping[str, TaskGradients]) -> None:
        """Add a micro-batch; tasks and groups may be missing in some.

        Args:
            losses: by task.
            gradients: by group, of a source that `accumulates`.
        """
        self.losses = self.total(losses)
        for group, part in gradients.items():
            so_far = self.gradients.setdefault(group, part)
            if so_far is not part:
                assert isinstance(so_far, SharedRows)
                assert isinstance(part, SharedRows)
                so_far.add(part)
