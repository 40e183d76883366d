"""Batches of labelled images, and their split into training and validation data."""

from dataclasses import dataclass

import torch
from torch import Tensor

from examples.common import transforms
from examples.metapseudo import augment
from examples.metapseudo.data.load import Labelled


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Labelled images as the classifier gets them.

    Attributes:
        images: Weakly augmented images in [0, 1], [N, 3, 32, 32].
        labels: Labels, as integers [N].
    """

    images: Tensor
    labels: Tensor


def draw_batch(images: Labelled, num_images: int, draws: torch.Generator) -> Batch:
    """Return labelled images, drawn with replacement and weakly augmented.

    Args:
        images: The labelled images to draw from.
        num_images: Number of images, N.
        draws: Generator of random numbers, on the CPU.
    """
    chosen = torch.randint(len(images), (num_images,), generator=draws)
    shown = augment.weak(transforms.to_float(images.images[chosen]), draws)
    return Batch(images=shown, labels=images.labels[chosen])


def split(labelled: Labelled, num_validation: int) -> tuple[Labelled, Labelled]:
    """Return the training and the validation data; with no validation images they are the same.

    Args:
        labelled: Labelled images, the same number of every class, ordered by class.
        num_validation: Number of images of each class that are kept for validation.
    """
    if num_validation == 0:
        return labelled, labelled
    per_class = len(labelled) // len(labelled.classes)
    kept = torch.arange(len(labelled)) % per_class < num_validation
    return labelled.take(~kept), labelled.take(kept)
