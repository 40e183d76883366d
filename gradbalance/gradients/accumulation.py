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

    def add(self, losses: Mapping[str, Tensor], gradients: Mapping[str, TaskGradients]) -> None:
        """Add a micro-batch; tasks and groups may be missing in some.

        Args:
            losses: by task.
            gradients: by group, of a source that `accumulates`.
        """
        for task, loss in losses.items():
            before = self.losses.get(task)
            self.losses[task] = loss.detach() if before is None else before + loss.detach()
        for group, part in gradients.items():
            so_far = self.gradients.setdefault(group, part)
            if so_far is not part:
                assert isinstance(so_far, SharedRows)
                assert isinstance(part, SharedRows)
                so_far.add(part)
        # A group that a micro-batch does not reach has all tasks nevertheless.
        for so_far in self.gradients.values():
            assert isinstance(so_far, SharedRows)
            so_far.add_tasks(self.losses)
