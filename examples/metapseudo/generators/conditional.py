"""The base class of the generators that ``train_source`` trains: classes, sizes, and a state."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from examples.metapseudo.generators.generator import Generator, frozen

# Legend: N images, L latent size, C classes of the generator.

Self = TypeVar("Self", bound="ConditionalGenerator")


class ConditionalGenerator(Generator):
    """A generator of 32×32 images of some classes.

    Args:
        classes: Names of the C classes.
        latent_size: Length of a latent, L.
        width: The widths of the layers are multiples of it.
    """

    def __init__(self, classes: Sequence[str], *, latent_size: int, width: int) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.num_classes = len(self.classes)
        self.latent_size = latent_size
        self._width = width

    @abstractmethod
    def images_of(self, latents: Tensor, classes: Tensor) -> Tensor:
        """Return images [N, 3, 32, 32] in [0, 1].

        Args:
            latents: Latents [N, L].
            classes: Class of each image, as integers [N].
        """

    def forward(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return images [N, 3, 32, 32] in [0, 1].

        Args:
            latents: Latents [N, L].
            classes: Class of each image, as integers [N].

        Raises:
            ValueError: No classes are given.
        """
        if classes is None:
            raise ValueError(f"classes are needed, integers below {self.num_classes}, got None")
        return self.images_of(latents, classes)

    def as_state(self) -> dict[str, Any]:
        """Return sizes, names and weights; in half precision, which is enough for pictures."""
        return {
            "classes": list(self.classes),
            "latent_size": self.latent_size,
            "width": self._width,
            "weights": {name: _halved(value) for name, value in self.state_dict().items()},
        }

    @classmethod
    def of_state(cls: type[Self], state: dict[str, Any]) -> Self:
        """Return a generator, frozen.

        Args:
            state: What ``as_state`` returned.
        """
        sizes = {key: state[key] for key in ("latent_size", "width")}
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn, and replaced
            generator = cls(state["classes"], **sizes)
        generator.load_state_dict(state["weights"])
        frozen(generator)
        return generator


def _halved(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() else value
