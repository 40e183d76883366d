"""Small photographs with two labels: the class, and the angle by which the photograph was turned.

The class comes with the images; the measurements used CIFAR-10. The turn by 0, 90, 180 or 270
degrees is drawn once for each image. The turn task is learned sooner. It needs features that depend
on the turn, and the class task is better off without them.
"""

from pathlib import Path

import torch
from torch import nn

from benchmarks.tasks.supervised import Classes, Labelled, Supervised
from examples.common.data.image_set import ImageSet

NUM_STEPS = 200
NUM_TRAIN, NUM_HELD_OUT = 3_000, 3_000  # a third of the held-out images is for validation
WIDTH = 64


def suite(data: Path | None) -> Supervised:
    """The suite on a folder or zip of labelled images, which `examples.common.data` reads.

    Raises:
        FileNotFoundError: there are no images.
    """
    from examples.common.data.images import load_images

    if data is None or not data.exists():
        found = "it was not given" if data is None else f"found nothing at {str(data)!r}"
        raise FileNotFoundError(
            "it needs --data, a folder or zip of images as <class>/<image> below train/ and test/; "
            + found
        )
    train, test = load_images(data, max_train=NUM_TRAIN, max_test=NUM_HELD_OUT)
    held_out = _turned(test, seed=1)
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
    return Supervised(
        {"class": Classes(len(train.classes["class"])), "turn": Classes(4)},
        _turned(train, seed=0),
        {
            "validation": held_out.chosen(order[: len(order) // 3]),
            "test": held_out.chosen(order[len(order) // 3 :]),
        },
        trunk=_trunk,
        width=WIDTH,
        num_steps=NUM_STEPS,
    )


def _turned(image_set: ImageSet, seed: int) -> Labelled:
    images = image_set.images.float() / 255 - 0.5
    turns = torch.randint(4, (len(images),), generator=torch.Generator().manual_seed(seed))
    for turn in range(1, 4):
        images[turns == turn] = images[turns == turn].rot90(turn, (2, 3))
    return Labelled(images, {"class": torch.from_numpy(image_set.labels["class"]), "turn": turns})


def _trunk() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 16, WIDTH), nn.ReLU()),
    )
