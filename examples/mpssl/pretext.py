"""The pretext tasks: each draws a level per image, each level is a class, all in one input.

The transformations do not commute. ``TASKS`` lists them in the order in which they are applied:

1. rotation, after crop and flip, because a flip after it would swap 90 and 270 degrees;
2. brightness and contrast, which change the tone of the whole image;
3. saturation: a grey image stays grey under all later operations;
4. sharpness, the only one that uses neighbouring pixels: it comes before the next two, whose
   artificial edges it would amplify or blur away;
5. solarization and 6. posterization: only inverted tones and a small number of tones show them, so
   no later operation may blend pixels.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from examples.common import transforms


@dataclass(frozen=True, kw_only=True)
class PretextTask:
    """A transformation with a few levels; the task is to predict the level from the image.

    Attributes:
        name: Name of the task and of its head.
        levels: Parameter of the transformation for each class.
        labels: The label of each class in pictures.
        identity: The class that does not change the image at all.
        apply: Batched operation ``(images, parameters) -> images``.
    """

    name: str
    levels: tuple[float, ...]
    labels: tuple[str, ...]
    identity: int
    apply: Callable[[Tensor, Tensor], Tensor]

    @property
    def num_classes(self) -> int:
        """Number of levels."""
        return len(self.levels)


def _task(
    name: str, apply: Callable[[Tensor, Tensor], Tensor], identity: int, **levels: float
) -> PretextTask:
    return PretextTask(
        name=name,
        levels=tuple(float(level) for level in levels.values()),
        labels=tuple(levels),
        identity=identity,
        apply=apply,
    )


TASKS: dict[str, PretextTask] = {
    task.name: task
    for task in (
        _task("rotation", transforms.rotate, 0, **{"0°": 0, "90°": 1, "180°": 2, "270°": 3}),
        _task(
            "brightness",
            transforms.adjust_brightness,
            2,
            **{"×0.25": 0.25, "×0.5": 0.5, "×1": 1, "×2": 2},
        ),
        _task(
            "contrast",
            transforms.adjust_contrast,
            2,
            **{"×0.25": 0.25, "×0.5": 0.5, "×1": 1, "×2": 2},
        ),
        _task(
            "saturation",
            transforms.adjust_saturation,
            2,
            **{"×0": 0, "×0.5": 0.5, "×1": 1, "×2": 2},
        ),
        _task(
            "sharpness",
            transforms.adjust_sharpness,
            1,
            **{"×0": 0, "×1": 1, "×2.5": 2.5, "×5": 5},
        ),
        _task(
            "solarization",
            transforms.solarize,
            0,
            **{"none": math.inf, "≥.75": 0.75, "≥.5": 0.5, "≥.25": 0.25},
        ),
        _task(
            "posterization",
            transforms.posterize,
            0,
            **{"8 bits": 8, "4 bits": 4, "2 bits": 2, "1 bit": 1},
        ),
    )
}


def select_tasks(names: Sequence[str]) -> tuple[PretextTask, ...]:
    """Return the named tasks in the order in which they are applied.

    Args:
        names: Names of tasks, in any order.

    Raises:
        ValueError: A name is unknown or occurs twice, or there is no name.
    """
    unknown = [name for name in names if name not in TASKS]
    if unknown:
        raise ValueError(f"unknown pretext task {unknown[0]!r}; choose from {', '.join(TASKS)}")
    if not names or len(set(names)) != len(names):
        raise ValueError(f"tasks must name each pretext task once, got {list(names)}")
    return tuple(task for name, task in TASKS.items() if name in names)


def draw_classes(
    tasks: Sequence[PretextTask], num_images: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Draw a class for every image and task, independently and uniformly.

    Args:
        tasks: The pretext tasks.
        num_images: Number of images.
        generator: CPU generator.

    Returns:
        The classes of each task, an integer tensor [num_images] on the CPU.
    """
    return {
        task.name: torch.randint(task.num_classes, (num_images,), generator=generator)
        for task in tasks
    }


def mix(images: Tensor, tasks: Sequence[PretextTask], classes: Mapping[str, Tensor]) -> Tensor:
    """Apply every task's transformation to the same images, in the order of ``TASKS``.

    Args:
        images: Cropped and flipped images [N, 3, S, S] in [0, 1].
        tasks: The pretext tasks, in any order.
        classes: For each task, the class of every image [N].
    """
    for task in select_tasks([task.name for task in tasks]):
        parameters = torch.tensor(task.levels, dtype=images.dtype)[classes[task.name].cpu()]
        images = task.apply(images, parameters.to(images.device))
    return images
