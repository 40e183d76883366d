"""The interface of a generator: it makes images of latents z, and of classes c if it has any."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

# Legend: N images, L latent size, C classes of the generator, S side of an image.


class Generator(nn.Module, ABC):
    """A generator of images. It is frozen, and differentiated with respect to its latents.

    Attributes:
        latent_size: L, the length of a latent, which is drawn from a standard normal.
        num_classes: C, the number of its own (source) classes; 0 if it is not conditional.
    """

    latent_size: int
    num_classes: int

    @abstractmethod
    def forward(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return images [N, 3, 32, 32] in [0, 1], differentiable with respect to the latents.

        Args:
            latents: Latents [N, L].
            classes: Class of each image, as integers [N]; None if C is 0.
        """

    def draw(
        self, num_images: int, generator: torch.Generator, shares: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Draw latents [N, L], and classes [N] if the generator has any.

        Args:
            num_images: Number of images, N.
            generator: Generator of random numbers, on the CPU.
            shares: Probability of each class [C]; by default all are equally likely.
        """
        latents = torch.randn(num_images, self.latent_size, generator=generator)
        if self.num_classes == 0:
            return latents, None
        if shares is None:
            shares = torch.ones(self.num_classes)
        classes = torch.multinomial(shares, num_images, replacement=True, generator=generator)
        return latents, classes


def frozen(generator: Generator) -> Generator:
    """Return a generator that is no longer trained: in evaluation mode, without gradients.

    Args:
        generator: The generator, which is changed in place.
    """
    return generator.eval().requires_grad_(False)
