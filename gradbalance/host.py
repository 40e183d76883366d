"""What a step sees, brought to the host: losses and Gramians as numbers, in one copy."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from gradbalance.gradients import TaskGradients
from gradbalance.gradients.ranks import Ranks
from gradbalance.numerics.array import Array


def overflowed_in_gramians(losses: Mapping[str, float], grams: Mapping[str, Array | None]) -> bool:
    """Whether a finite loss has a gradient that is not."""
    finite = np.isfinite(list(losses.values()))
    squares = [np.diagonal(gram)[finite] for gram in grams.values() if gram is not None]
    return not all(np.isfinite(square).all() for square in squares)


@torch.no_grad()
def to_host(
    losses: Mapping[str, Tensor],
    gradients: Mapping[str, TaskGradients],
    ranks: Ranks | None = None,
    factor: float = 1.0,
) -> tuple[dict[str, float], dict[str, Array | None]]:
    """Losses by task and Gramians [t, t] by group, in one copy from the device.

    Args:
        losses: by task.
        gradients: by group, those of the losses times a factor.
        ranks: over which the gradients are means.
        factor: that of the gradients; the Gramians are returned without it.
    """
    if ranks is not None and gradients:
        lengths = tuple((group, part.num_columns) for group, part in gradients.items())
        ranks.check_same(lengths, next(iter(losses.values())))
    tasks = list(losses)
    measured = {group: part.gram(tasks, ranks) for group, part in gradients.items()}
    grams = {group: gram for group, gram in measured.items() if gram is not None}
    like = next(iter(grams.values()), next(iter(losses.values())))
    dtype = torch.float32 if like.device.type == "mps" else torch.float64
    parts = [loss.detach().reshape(1) for loss in losses.values()]
    parts += [gram.reshape(-1) for gram in grams.values()]
    flat = torch.cat([part.to(like.device, dtype) for part in parts]).cpu().numpy()
    values, entries = np.split(flat.astype(np.float64), [len(losses)])
    shape = (len(grams), len(losses), len(losses))
    matrices = dict(zip(grams, entries.reshape(shape) / factor**2, strict=True))
    by_task = dict(zip(losses, values.tolist(), strict=True))
    return by_task, {group: matrices.get(group) for group in measured}
