"""Weak and strong augmentation, both differentiable with respect to the images."""

import torch
from torch import Tensor

from examples.common import transforms

_HOLE = 10  # Side of the square that strong augmentation cuts out, in pixels.


def weak(images: Tensor, draws: torch.Generator) -> Tensor:
    """Shift by up to two pixels, and flip half of the images.

    Args:
        images: Images in [0, 1], [N, 3, 32, 32].
        draws: Generator of random numbers, on the CPU.
    """
    return transforms.crop_and_flip(images, draws, padding=2)


def strong(images: Tensor, draws: torch.Generator) -> Tensor:
    """Shift by up to four pixels, flip, change the tones, and cut a square out.

    Args:
        images: Images in [0, 1], [N, 3, 32, 32].
        draws: Generator of random numbers, on the CPU.
    """
    images = transforms.crop_and_flip(images, draws, padding=4)
    factors = 0.4 + 1.2 * torch.rand(3, len(images), generator=draws)
    images = transforms.adjust_brightness(images, factors[0])
    images = transforms.adjust_contrast(images, factors[1])
    images = transforms.adjust_saturation(images, factors[2])
    return _cut(images, draws)


def _cut(images: Tensor, draws: torch.Generator) -> Tensor:
    num_images, _, height, width = images.shape
    top = torch.randint(height - _HOLE + 1, (num_images, 1), generator=draws)
    left = torch.randint(width - _HOLE + 1, (num_images, 1), generator=draws)
    rows, columns = torch.arange(height), torch.arange(width)
    in_rows = (rows >= top) & (rows < top + _HOLE)
    in_columns = (columns >= left) & (columns < left + _HOLE)
    hole = (in_rows[:, :, None] & in_columns[:, None, :])[:, None].to(images.device)
    return images.masked_fill(hole, 0.5)
