"""The gradients of what a task does not share with the others: its head."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gradbalance.gradients.autograd import accumulate
from gradbalance.gradients.source import Heads


class HeadGradients:
    """What each task's own leaves get; it comes out of the same backward as the task's row.

    Args:
        heads: "raw" adds the tasks' gradients as they are, "weighted" times the tasks' weights.
    """

    def __init__(self, heads: Heads) -> None:
        self._heads = heads
        self._gradients: dict[str, dict[Tensor, Tensor]] = {}

    def keep(self, task: str, leaves: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
        """Keep the gradients of a task's own leaves until the step is written."""
        pairs = zip(leaves, gradients, strict=True)
        self._gradients[task] = {leaf: g for leaf, g in pairs if g is not None}

    def add(self, other: "HeadGradients") -> None:
        """Add the gradients of other losses, task by task."""
        for task, added in other._gradients.items():
            kept = self._gradients.setdefault(task, {})
            for leaf, gradient in added.items():
                kept[leaf] = kept[leaf] + gradient if leaf in kept else gradient

    def accumulate(self, weights: Mapping[str, float], *, zeros: bool = False) -> None:
        """Add the gradients of the tasks in `weights` to the leaves' `.grad`.

        Args:
            weights: by task.
            zeros: whether the other tasks' leaves get zeros, without which DDP would wait for them.
        """
        total: dict[Tensor, Tensor] = {}
        if zeros:
            leaves = (leaf for kept in self._gradients.values() for leaf in kept)
            total = {leaf: torch.zeros_like(leaf) for leaf in leaves}
        for task, weight in weights.items():
            for leaf, gradient in self._gradients.get(task, {}).items():
                scaled = gradient if self._heads == "raw" else gradient * weight
                total[leaf] = total[leaf] + scaled if leaf in total else scaled
        accumulate(list(total), list(total.values()))
