"""Labelled images: as they are split, and as they are drawn."""

from dataclasses import dataclass

import torch
from torch import Tensor

from examples.common import transforms
from examples.metapseudo import augment
from examples.metapseudo.data.load import Labelled


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images as a classifier is shown them.

    Attributes:
        images: In [0, 1], augmented weakly, [N, 3, 32, 32].
        labels: Integers [N].
    """

    images: Tensor
    labels: Tensor


def draw_batch(images: Labelled, num_images: int, draws: torch.Generator) -> Batch:
    """Return labelled images, drawn with replacement and augmented weakly.

    Args:
        images: What is drawn from.
        num_images: N.
        draws: On the CPU.
    """
    chosen = torch.randint(len(images), (num_images,), generator=draws)
    shown = augment.weak(transforms.to_float(images.images[chosen]), draws)
    return Batch(images=shown, labels=images.labels[chosen])


def split(labelled: Labelled, num_validation: int) -> tuple[Labelled, Labelled]:
    """Return the training and the validation data; with no validation images they are the same.

    Args:
        labelled: As many images of every class, class by class.
        num_validation: How many of each are kept for validation.
    """
    if num_validation == 0:
        return labelled, labelled
    per_class = len(labelled) // len(labelled.classes)
    kept = torch.arange(len(labelled)) % per_class < num_validation
    return labelled.take(~kept), labelled.take(kept)
