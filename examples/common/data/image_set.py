"""The data structure for images that all other code of an example uses."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

IMAGE_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """8-bit images and, for the probes only, their labels.

    Attributes:
        images: uint8 tensor [N, 3, 32, 32].
        labels: The labels of each factor, an integer array [N]; files have only ``class``.
        classes: The class names of each factor.
        unreadable: The files that could not be read, each as ``name: reason``.
    """

    images: Tensor
    labels: dict[str, NDArray[np.int64]]
    classes: dict[str, tuple[str, ...]]
    unreadable: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.images)
