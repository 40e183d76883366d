"""The ablation: changes, one at a time, in how the method makes inputs from images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from examples.common import transforms
from examples.common.choices import check_one_of
from examples.mpssl import pretext
from examples.mpssl.inputs import NOT_ASKED, Batch, MakeBatch, pretext_batch
from examples.mpssl.presets import RunConfig
from examples.mpssl.pretext import PretextTask

Mixing = Literal["mixed", "separate"]
Rotations = Literal["one", "all"]
Order = Literal["documented", "reversed"]

_CHOICES = {"mixing": get_args(Mixing), "rotations": get_args(Rotations), "order": get_args(Order)}


@dataclass(frozen=True, kw_only=True)
class StudyConfig(RunConfig):
    """A run of the study; the default of each option is the method's, and at most one may differ.

    Attributes:
        mixing: "mixed" applies every task's transformation to every image; "separate" divides the
            images among the tasks, so each input has one transformation and a class for one task.
        rotations: "one" draws a rotation for each image; "all" makes four inputs from each image,
            one for each rotation, as RotNet does.
        order: "documented" applies the transformations in the order of ``pretext.TASKS``, and
            "reversed" applies them in the reversed order.
    """

    mixing: Mixing = "mixed"
    rotations: Rotations = "one"
    order: Order = "documented"

    def __post_init__(self) -> None:
        super().__post_init__()
        for option, choices in _CHOICES.items():
            check_one_of(option, getattr(self, option), choices)
        if len(self.changed) > 1:
            raise ValueError(f"one thing is changed at a time, got {' and '.join(self.changed)}")
        if self.rotations == "all" and "rotation" not in self.tasks:
            raise ValueError("rotations='all' needs the task 'rotation'")

    @property
    def changed(self) -> list[str]:
        """The options that differ from the method's."""
        return [
            option for option, choices in _CHOICES.items() if getattr(self, option) != choices[0]
        ]


def batches_of(config: StudyConfig, *, judged: bool = False) -> MakeBatch:
    """Return the function that makes the inputs of a run.

    Args:
        config: The configuration of the run.
        judged: Whether the inputs are for evaluating the pretext tasks, and not for training.
    """
    if config.mixing == "separate":
        return every_image_separate if judged else separate
    if config.rotations == "all":
        return all_rotations
    return backwards if config.order == "reversed" else pretext_batch


def backwards(images: Tensor, tasks: Sequence[PretextTask], generator: torch.Generator) -> Batch:
    """Make mixed inputs with the transformations in the reversed order.

    Args:
        images: Cropped and flipped images [N, 3, S, S] in [0, 1].
        tasks: The pretext tasks.
        generator: CPU generator that draws the classes.
    """
    classes = pretext.draw_classes(tasks, len(images), generator)
    for task in reversed(pretext.select_tasks([task.name for task in tasks])):
        images = pretext.mix(images, [task], classes)
    return Batch(inputs=transforms.normalize(images), classes=classes)


def all_rotations(
    images: Tensor, tasks: Sequence[PretextTask], generator: torch.Generator
) -> Batch:
    """Make one mixed input per rotation from each image; other classes are drawn for each input.

    Args:
        images: Cropped and flipped images [N, 3, S, S] in [0, 1].
        tasks: The pretext tasks, including rotation.
        generator: CPU generator that draws the classes.

    Returns:
        4N inputs.
    """
    num_rotations = pretext.TASKS["rotation"].num_classes
    classes = pretext.draw_classes(tasks, num_rotations * len(images), generator)
    classes["rotation"] = torch.arange(num_rotations).repeat(len(images))
    mixed = pretext.mix(images.repeat_interleave(num_rotations, dim=0), tasks, classes)
    return Batch(inputs=transforms.normalize(mixed), classes=classes)


def separate(images: Tensor, tasks: Sequence[PretextTask], generator: torch.Generator) -> Batch:
    """Divide the images among the tasks: each input has the transformation of one task only.

    Args:
        images: Cropped and flipped images [N, 3, S, S] in [0, 1], in random order.
        tasks: The pretext tasks.
        generator: CPU generator that draws the classes.

    Raises:
        ValueError: There are fewer images than tasks.
    """
    if len(images) < len(tasks):
        raise ValueError(
            f"separate inputs need an image for each task, got {len(images)} images for "
            f"{len(tasks)} tasks"
        )
    inputs: list[Tensor] = []
    classes = {task.name: torch.full((len(images),), NOT_ASKED) for task in tasks}
    everything = torch.arange(len(images))
    for task, share in zip(tasks, torch.tensor_split(everything, len(tasks)), strict=True):
        drawn = pretext.draw_classes([task], len(share), generator)
        inputs.append(pretext.mix(images[share.to(images.device)], [task], drawn))
        classes[task.name][share] = drawn[task.name]
    return Batch(inputs=transforms.normalize(torch.cat(inputs)), classes=classes)


def every_image_separate(
    images: Tensor, tasks: Sequence[PretextTask], generator: torch.Generator
) -> Batch:
    """Make one input per task from every image, with the transformation of this task only.

    Args:
        images: Images [N, 3, S, S] in [0, 1].
        tasks: The T pretext tasks.
        generator: CPU generator that draws the classes.

    Returns:
        T·N inputs.
    """
    return separate(images.repeat(len(tasks), 1, 1, 1), tasks, generator)
