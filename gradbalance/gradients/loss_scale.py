"""The loss scale of mixed precision: losses times it, and whether their gradients overflowed."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from gradbalance.gradients.graph import Graph


def scale_losses(
    losses: Mapping[str, Tensor], scaler: GradScaler | None
) -> tuple[dict[str, Tensor], float]:
    """The losses times the scaler's present scale, and that scale; both plain without a scaler.

    Args:
        losses: by task.
        scaler: as the user has it for the optimizer.
    """
    if scaler is None:
        return dict(losses), 1.0
    return {task: scaler.scale(loss) for task, loss in losses.items()}, float(scaler.get_scale())


@torch.no_grad()
def overflowed(losses: Mapping[str, Tensor]) -> bool:
    """Whether a leaf behind the losses holds a `.grad` that is not finite.

    Args:
        losses: by task, after their backward.
    """
    leaves = {k: leaf for own in Graph(losses).leaves.values() for k, leaf in own.items()}
    found = [
        torch.isfinite(leaf.grad.coalesce().values() if leaf.grad.is_sparse else leaf.grad).all()
        for leaf in leaves.values()
        if leaf.grad is not None
    ]
    return not all(bool(on_device) for on_device in found)
