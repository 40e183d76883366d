"""A small class-conditional generator for 32×32 images."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from examples.metapseudo.generators.generator import Generator, frozen

# Legend: N images, L latent size, C classes of the generator.


class ConditionalGenerator(Generator):
    """From a latent and a class: a 4×4 map, doubled three times by upsampling and convolution.

    Args:
        classes: Names of its C classes.
        latent_size: L.
        width: Channels before the last layer; 0.19 million parameters by default.
    """

    def __init__(self, classes: Sequence[str], *, latent_size: int = 64, width: int = 16) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.num_classes = len(self.classes)
        self.latent_size = latent_size
        self._width = width
        self.embedding = nn.Embedding(self.num_classes, latent_size)
        self.first = nn.Linear(2 * latent_size, 4 * width * 16)
        self.blocks = nn.Sequential(
            _block(4 * width, 4 * width), _block(4 * width, 2 * width), _block(2 * width, width)
        )
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return images [N, 3, 32, 32] in [0, 1].

        Args:
            latents: [N, L].
            classes: Integers [N].
        """
        if classes is None:
            raise ValueError(f"classes are needed, integers below {self.num_classes}, got None")
        both = torch.cat([latents, self.embedding(classes)], dim=1)
        # The layout carries over from block to block, and a CPU is faster in it.
        maps = self.first(both).unflatten(1, (-1, 4, 4)).to(memory_format=torch.channels_last)
        return torch.sigmoid(self.last(self.blocks(maps)))

    def as_state(self) -> dict[str, Any]:
        """Return sizes, names and weights; half precision serves for pictures, at half the size."""
        return {
            "classes": list(self.classes),
            "latent_size": self.latent_size,
            "width": self._width,
            "weights": {name: _halved(value) for name, value in self.state_dict().items()},
        }

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> "ConditionalGenerator":
        """Return a generator, frozen.

        Args:
            state: What ``as_state`` returned.
        """
        generator = cls(state["classes"], latent_size=state["latent_size"], width=state["width"])
        generator.load_state_dict(state["weights"])
        frozen(generator)
        return generator


def _block(channels_in: int, channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Upsample(scale_factor=2),
        nn.Conv2d(channels_in, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


def _halved(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() else value
