"""What a batch of images becomes: the inputs, and for each task the right class of every input."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from examples.common import transforms
from examples.mpssl import pretext
from examples.mpssl.pretext import PretextTask

NOT_ASKED = -100  # cross_entropy leaves such inputs out


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Inputs with their questions and answers.

    Attributes:
        inputs: Normalised images [N, 3, 32, 32].
        classes: For each task the right class of every input [N]; or NOT_ASKED, where a batch is
            not mixed as in the method, but has inputs that a task is not asked about.
    """

    inputs: Tensor
    classes: Mapping[str, Tensor]


MakeBatch = Callable[[Tensor, Sequence[PretextTask], torch.Generator], Batch]


def pretext_batch(
    images: Tensor, tasks: Sequence[PretextTask], generator: torch.Generator
) -> Batch:
    """Draw every task's classes, and make the inputs that show all of them.

    Args:
        images: Cropped and flipped images [N, 3, S, S] in [0, 1].
        tasks: The pretext tasks.
        generator: CPU generator of the classes.
    """
    classes = pretext.draw_classes(tasks, len(images), generator)
    mixed = pretext.mix(images, tasks, classes)
    return Batch(inputs=transforms.normalize(mixed), classes=classes)


def label_batch(images: Tensor, labels: Mapping[str, Tensor]) -> Batch:
    """Ask about the images' known labels.

    Args:
        images: Cropped and flipped images [N, 3, S, S] in [0, 1].
        labels: For each factor the classes of all images.
    """
    return Batch(inputs=transforms.normalize(images), classes=labels)
