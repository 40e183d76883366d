"""The one form in which the rest of the example sees data."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

IMAGE_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """8-bit images and, for the probes only, what is known about them.

    Attributes:
        images: uint8 tensor [N, 3, 32, 32].
        labels: For each factor (for files the only one is ``class``) an integer array [N].
        classes: For each factor the names of its classes.
        unreadable: What could not be read, each as ``name: reason``.
    """

    images: Tensor
    labels: dict[str, NDArray[np.int64]]
    classes: dict[str, tuple[str, ...]]
    unreadable: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.images)
