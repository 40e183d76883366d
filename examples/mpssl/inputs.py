"""What a batch of images becomes: the inputs, and which of them each task is asked about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from examples.common import transforms
from examples.common.choices import check_one_of
from examples.mpssl import pretext
from examples.mpssl.pretext import PretextTask

Mixing = Literal["mixed", "separate"]
Rotations = Literal["one", "all"]
Order = Literal["documented", "reversed"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How inputs are made of images.

    Attributes:
        mixing: "mixed" applies every task's transformation to every image; "separate" deals the
            images out to the tasks, so that an input bears one transformation and one question.
        rotations: "one" draws a rotation for each image; "all" makes four inputs of an image, one
            for each rotation, as RotNet does.
        order: "documented" applies the transformations in the order of ``pretext.TASKS``,
            "reversed" the other way round.
    """

    mixing: Mixing = "mixed"
    rotations: Rotations = "one"
    order: Order = "documented"

    def check(self, tasks: Sequence[str]) -> None:
        """Raise a ValueError that says what does not go together.

        Args:
            tasks: Names of the pretext tasks.
        """
        for option, choices in (("mixing", Mixing), ("rotations", Rotations), ("order", Order)):
            check_one_of(option, getattr(self, option), get_args(choices))
        if self.rotations == "all" and ("rotation" not in tasks or self.mixing == "separate"):
            raise ValueError("rotations='all' needs the task 'rotation' and mixing='mixed'")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Inputs with their questions and answers.

    Attributes:
        inputs: Normalised images [N, 3, 32, 32].
        classes: For each task the right classes of the inputs that it is asked about.
        rows: For each task which of the N these are.
    """

    inputs: Tensor
    classes: Mapping[str, Tensor]
    rows: Mapping[str, slice]


def pretext_batch(
    images: Tensor, tasks: Sequence[PretextTask], recipe: Recipe, generator: torch.Generator
) -> Batch:
    """Draw every task's classes and make the inputs that show them.

    Args:
        images: Cropped and flipped images [N, 3, S, S] in [0, 1], in random order.
        tasks: The pretext tasks.
        recipe: How.
        generator: CPU generator of the classes.
    """
    if recipe.mixing == "separate":
        return _separate(images, tasks, generator)
    num_copies = 1
    if recipe.rotations == "all":
        num_copies = pretext.TASKS["rotation"].num_classes
        images = images.repeat_interleave(num_copies, dim=0)
    classes = pretext.draw_classes(tasks, len(images), generator)
    if recipe.rotations == "all":
        classes["rotation"] = torch.arange(num_copies).repeat(len(images) // num_copies)
    mixed = pretext.mix(images, tasks, classes, backwards=recipe.order == "reversed")
    return _batch(mixed, classes)


def label_batch(images: Tensor, labels: Mapping[str, Tensor]) -> Batch:
    """Ask about the images' known labels.

    Args:
        images: Cropped and flipped images [N, 3, S, S] in [0, 1].
        labels: For each factor the classes of all images.
    """
    return _batch(images, labels)


def _batch(images: Tensor, classes: Mapping[str, Tensor]) -> Batch:
    rows = dict.fromkeys(classes, slice(None))
    return Batch(inputs=transforms.normalize(images), classes=classes, rows=rows)


def _separate(images: Tensor, tasks: Sequence[PretextTask], generator: torch.Generator) -> Batch:
    if len(images) < len(tasks):
        raise ValueError(
            f"mixing='separate' needs an image for each task, got {len(images)} images for "
            f"{len(tasks)} tasks"
        )
    shares = torch.tensor_split(torch.arange(len(images)), len(tasks))
    inputs: list[Tensor] = []
    classes: dict[str, Tensor] = {}
    rows: dict[str, slice] = {}
    for task, share in zip(tasks, shares, strict=True):
        rows[task.name] = slice(int(share[0]), int(share[-1]) + 1)
        classes |= pretext.draw_classes([task], len(share), generator)
        inputs.append(pretext.mix(images[rows[task.name]], [task], classes))
    return Batch(inputs=transforms.normalize(torch.cat(inputs)), classes=classes, rows=rows)
