"""A small class-conditional generator of 32×32 images: a Gaussian for each class, and a decoder."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from examples.common.data.image_set import IMAGE_SIZE
from examples.metapseudo.generators.generator import Generator, frozen

# Legend: N images, L latent size, C classes of the generator.


class ConditionalGenerator(Generator):
    r"""Decodes draws of its class's Gaussian: x = g(μ_c + A_c z), z standard normal.

    The decoder g is a perceptron of three layers, which costs little beside convolutions and
    serves for so few pixels.

    Args:
        classes: Names of its C classes.
        latent_size: L.
        width: Of the hidden layers.
    """

    means: Tensor
    factors: Tensor

    def __init__(self, classes: Sequence[str], *, latent_size: int = 64, width: int = 512) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.num_classes = len(self.classes)
        self.latent_size = latent_size
        self._width = width
        self.register_buffer("means", torch.zeros(self.num_classes, latent_size))
        self.register_buffer("factors", torch.eye(latent_size).repeat(self.num_classes, 1, 1))
        self.decoder = nn.Sequential(
            nn.Linear(latent_size, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, 3 * IMAGE_SIZE**2),
            nn.Sigmoid(),
            nn.Unflatten(1, (3, IMAGE_SIZE, IMAGE_SIZE)),
        )

    def forward(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return images [N, 3, 32, 32] in [0, 1].

        Args:
            latents: [N, L].
            classes: Integers [N].
        """
        if classes is None:
            raise ValueError(f"classes are needed, integers below {self.num_classes}, got None")
        drawn = torch.einsum("nij,nj->ni", self.factors[classes], latents)
        images: Tensor = self.decoder(self.means[classes] + drawn)
        return images

    @torch.no_grad()
    def fit(self, codes: Tensor, labels: Tensor) -> None:
        """Set the Gaussians to those of the codes.

        Args:
            codes: What the decoder is to be given for some images [N, L].
            labels: Their classes [N].

        Raises:
            ValueError: A class has fewer than two images.
        """
        for index, name in enumerate(self.classes):
            mine = codes[labels == index].double()
            if len(mine) < 2:
                raise ValueError(f"a class needs two images, found {len(mine)} of {name!r}")
            covariance = torch.cov(mine.T) + 1e-6 * torch.eye(self.latent_size, dtype=mine.dtype)
            self.means[index] = mine.mean(dim=0).float()
            self.factors[index] = torch.linalg.cholesky(covariance).float()

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
        sizes = {key: state[key] for key in ("latent_size", "width")}
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn, and replaced
            generator = cls(state["classes"], **sizes)
        generator.load_state_dict(state["weights"])
        frozen(generator)
        return generator


def _halved(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() else value
