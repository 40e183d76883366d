"""Makes a batch from images: the inputs, and for each task the correct class of every input."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from examples.common import transforms
from examples.mpssl import pretext
from examples.mpssl.pretext import PretextTask

NOT_ASKED = -100  # cross_entropy ignores inputs with this class


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Inputs with their classes.

    Attributes:
        inputs: Normalised images [N, 3, 32, 32].
        classes: For each task, the correct class of every input [N]. It is NOT_ASKED for an input
            that the task ignores, which occurs only if a batch is not mixed as in the method.
    """

    inputs: Tensor
    classes: Mapping[str, Tensor]


MakeBatch = Callable[[Tensor, Sequence[PretextTask], torch.Generator], Batch]


def pretext_batch(
    images: Tensor, tasks: Sequence[PretextTask], generator: torch.Generator
) -> Batch:
    """Draw the classes of every task, and apply all transformations to make the inputs.

    Args:
        images: Cropped and flipped images [N, 3, S, S] in [0, 1].
        tasks: The pretext tasks.
        generator: CPU generator that draws the classes.
    """
    classes = pretext.draw_classes(tasks, len(images), generator)
    mixed = pretext.mix(images, tasks, classes)
    return Batch(inputs=transforms.normalize(mixed), classes=classes)


def label_batch(images: Tensor, labels: Mapping[str, Tensor]) -> Batch:
    """Make a batch for supervised training: the classes are the known labels of the images.

    Args:
        images: Cropped and flipped images [N, 3, S, S] in [0, 1].
        labels: For each factor, the classes of all images.
    """
    return Batch(inputs=transforms.normalize(images), classes=labels)
