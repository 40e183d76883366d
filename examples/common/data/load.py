"""Loads the data of a run: built-in images, or images from a path."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from examples.common import transforms
from examples.common.data.image_set import ImageSet
from examples.common.data.images import load_images
from examples.common.data.procedural import make_images

BUILT_IN_TRAIN = 5000
BUILT_IN_TEST = 1000


def load_data(
    path: str | None,
    *,
    max_train: int | None = None,
    max_test: int | None = None,
    seed: int = 0,
    turned: bool = False,
) -> tuple[ImageSet, ImageSet]:
    """Return the training and the test images.

    Args:
        path: A folder or zip of images, or None for the built-in ones.
        max_train: Maximum number of training images; for built-in images, their exact number.
        max_test: The same for the test images.
        seed: Seed for drawing the built-in images or choosing among the files, and for the turns.
        turned: Give every image a random quarter turn, so that nothing in it tells which way is up.
    """
    if path is not None:
        sets = load_images(Path(path), max_train=max_train, max_test=max_test, seed=seed)
    else:
        sets = (
            make_images(max_train or BUILT_IN_TRAIN, seed=2 * seed),
            make_images(max_test or BUILT_IN_TEST, seed=2 * seed + 1),
        )
    if not turned:
        return sets
    return _turned(sets[0], 2 * seed), _turned(sets[1], 2 * seed + 1)


def _turned(image_set: ImageSet, seed: int) -> ImageSet:
    turns = torch.from_numpy(np.random.default_rng(seed).integers(4, size=len(image_set)))
    return replace(image_set, images=transforms.rotate(image_set.images, turns))
