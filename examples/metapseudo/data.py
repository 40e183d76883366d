"""Source and target: what the generator was trained on, and the few labelled images that matter.

Built in, the source is broad: all shapes, textures and colours, turned by any multiple of 90
degrees, known by their shape. The target is narrow: upright houses and hearts, striped or
chequered, and it is the colour that is asked for; one source image in thirty is like it. Of a
folder or zip of images, the source is the first half of the classes by name, and the target the
other half.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from examples.common import transforms
from examples.common.data.image_set import ImageSet
from examples.common.data.images import load_images
from examples.common.data.procedural import make_images

NARROW = {"shape": ("house", "heart"), "texture": ("stripes", "checker")}
BUILT_IN_SOURCE = 20_000
BUILT_IN_UNLABELLED = 2000
BUILT_IN_TEST = 1500
MOST_FOR_TEST = 2000  # Images of files.

# Different images for the generator and the target, whatever the seed of a run.
_SOURCE_SEED = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Images with one label each.

    Attributes:
        images: 8-bit images [N, 3, 32, 32].
        labels: Integers [N].
        classes: Names of the classes.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, chosen: Tensor) -> "Labelled":
        """Return some of the images.

        Args:
            chosen: Their indexes.
        """
        return Labelled(
            images=self.images[chosen], labels=self.labels[chosen], classes=self.classes
        )


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a classifier is trained and judged on.

    Attributes:
        labelled: As many images of every class.
        unlabelled: Other images [N, 3, 32, 32], for the oracle only.
        test: Held-out images.
    """

    labelled: Labelled
    unlabelled: Tensor
    test: Labelled


def load_source(data: str | None) -> Labelled:
    """Return the images that a generator is trained on.

    Args:
        data: Folder or zip of images, or None for the built-in ones.
    """
    if data is not None:
        return _half(_one_factor(_images(data)[0], "class"), first=True)
    drawn = _one_factor(make_images(BUILT_IN_SOURCE, seed=_SOURCE_SEED), "shape")
    turns = torch.randint(4, (len(drawn),), generator=torch.Generator().manual_seed(0))
    images = transforms.rotate(drawn.images, turns)
    return Labelled(images=images, labels=drawn.labels, classes=drawn.classes)


def load_target(data: str | None, *, labels_per_class: int, seed: int) -> Target:
    """Return the target with few labels.

    Args:
        data: Folder or zip of images, or None for the built-in ones.
        labels_per_class: Labelled images of every class.
        seed: Draws the built-in images, or chooses the labelled ones.

    Raises:
        ValueError: There are fewer images of a class than are to be labelled.
    """
    if data is None:
        pool = make_images(BUILT_IN_UNLABELLED, seed=2 * seed, only=NARROW)
        held_out = make_images(BUILT_IN_TEST, seed=2 * seed + 1, only=NARROW)
        train, test = _one_factor(pool, "colour"), _one_factor(held_out, "colour")
    else:
        train, test = (_half(_one_factor(images, "class"), first=False) for images in _images(data))
        # Files come class by class; the first test images are to be of all classes.
        mixed = torch.randperm(len(test), generator=torch.Generator().manual_seed(1))
        test = test.take(mixed[:MOST_FOR_TEST])
    draws = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train), generator=draws)
    of_class = [order[train.labels[order] == index] for index in range(len(train.classes))]
    fewest = min(len(members) for members in of_class)
    if not 1 <= labels_per_class < fewest:
        raise ValueError(
            f"labels_per_class must be at least 1 and less than {fewest}, the number of images of "
            f"the rarest class, got {labels_per_class}"
        )
    return Target(
        labelled=train.take(torch.cat([members[:labels_per_class] for members in of_class])),
        unlabelled=train.images[torch.cat([members[labels_per_class:] for members in of_class])],
        test=test,
    )


@lru_cache(maxsize=1)  # A process has many runs on the same files.
def _images(data: str) -> tuple[ImageSet, ImageSet]:
    return load_images(Path(data))


def _one_factor(images: ImageSet, factor: str) -> Labelled:
    labels = torch.from_numpy(np.asarray(images.labels[factor]))
    return Labelled(images=images.images, labels=labels, classes=images.classes[factor])


def _half(images: Labelled, *, first: bool) -> Labelled:
    half = len(images.classes) // 2
    start, end = (0, half) if first else (half, len(images.classes))
    if half < 2:
        raise ValueError(f"source and target need two classes each, found {list(images.classes)}")
    chosen = (images.labels >= start) & (images.labels < end)
    return Labelled(
        images=images.images[chosen],
        labels=images.labels[chosen] - start,
        classes=images.classes[start:end],
    )
