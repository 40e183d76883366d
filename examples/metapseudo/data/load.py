"""Source and target: the images of the generator, and the images that a classifier is trained on.

Of the built-in images, the source is all that the renderer draws, and the target is a narrow part
of it (``target``). Of a folder or zip of images, the source is the first half of the classes, in
the order of their names, and the target is the other half.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from examples.common.data.image_set import ImageSet
from examples.common.data.images import load_images
from examples.metapseudo.data.target import COLOURS, target_images
from examples.metapseudo.generators.renderer import SHAPES, Renderer, named, render

BUILT_IN_SOURCE = 20_000
BUILT_IN_UNLABELLED = 2000
BUILT_IN_TEST = 1500
MOST_FOR_TEST = 2000  # Largest number of test images from files.

_SOURCE_SEED = 1_000_000
_TARGET_SEED = 1000  # plus the seed of the run; the run's own draws begin from that seed alone


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Images with one label each.

    Attributes:
        images: 8-bit images [N, 3, 32, 32].
        labels: Labels, as integers [N].
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
            chosen: Indexes of these images.
        """
        return Labelled(
            images=self.images[chosen], labels=self.labels[chosen], classes=self.classes
        )


@dataclass(frozen=True, kw_only=True)
class Target:
    """The images that a classifier is trained and tested on.

    Attributes:
        labelled: Labelled images, the same number of every class.
        unlabelled: Other images [N, 3, 32, 32], used by the variants with real images only.
        test: Held-out images.
    """

    labelled: Labelled
    unlabelled: Tensor
    test: Labelled


def load_source_images(data: str | None) -> Labelled:
    """Return the images that a generator is trained on.

    Args:
        data: Folder or zip of images, or None for the built-in ones.
    """
    if data is not None:
        return _half(_one_factor(load_files(data)[0], "class"), first=True)
    draws = torch.Generator().manual_seed(_SOURCE_SEED)
    latents, _ = Renderer().draw(BUILT_IN_SOURCE, draws)
    images = (255 * render(latents)).round().to(torch.uint8)
    labels = named(latents)["shape"].argmax(dim=1)
    return Labelled(images=images, labels=labels, classes=SHAPES)


def load_target(data: str | None, *, labels_per_class: int, seed: int) -> Target:
    """Return the target with few labels.

    Args:
        data: Folder or zip of images, or None for the built-in ones.
        labels_per_class: Labelled images of every class.
        seed: Seed by which the built-in images are drawn, or the labelled ones of files chosen.

    Raises:
        ValueError: ``labels_per_class`` is less than 1, or not less than the images of some class.
    """
    if data is None:
        return _built_in(labels_per_class, seed)
    train, test = (_half(_one_factor(images, "class"), first=False) for images in load_files(data))
    # Files come class by class, but the first test images should be of all classes.
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


def _built_in(labels_per_class: int, seed: int) -> Target:
    if labels_per_class < 1:
        raise ValueError(f"labels_per_class must be at least 1, got {labels_per_class}")
    draws = torch.Generator().manual_seed(_TARGET_SEED + seed)

    def drawn(num_images: int) -> Labelled:
        images, labels = target_images(num_images, draws)
        return Labelled(images=images, labels=labels, classes=COLOURS)

    labelled = drawn(labels_per_class * len(COLOURS))
    return Target(
        labelled=labelled.take(torch.argsort(labelled.labels, stable=True)),
        unlabelled=drawn(BUILT_IN_UNLABELLED).images,
        test=drawn(BUILT_IN_TEST),
    )


@lru_cache(maxsize=1)  # A process does many runs on the same files.
def load_files(data: str) -> tuple[ImageSet, ImageSet]:
    """Return all images of a folder or zip: those for training, and those for testing.

    Args:
        data: Folder or zip of images.

    Raises:
        ValueError: There are no images.
    """
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
