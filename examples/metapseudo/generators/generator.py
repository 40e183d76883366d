"""What is asked of a generator: latents z, and classes c where it has any, become images."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

# Legend: N images, L latent size, C classes of the generator, S side of an image.


class Generator(nn.Module, ABC):
    """A generator of images; used frozen, but differentiated with respect to its latents.

    Attributes:
        latent_size: L, the length of a latent, which is drawn from a standard normal.
        num_classes: C, the number of its own (source) classes; 0 where it is not conditional.
    """

    latent_size: int
    num_classes: int

    @abstractmethod
    def forward(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return images [N, 3, 32, 32] in [0, 1], differentiable with respect to the latents.

        Args:
            latents: [N, L].
            classes: Class of each image, as integers [N]; None where C is 0.
        """

    def draw(
        self, num_images: int, generator: torch.Generator, shares: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Draw latents [N, L], and classes [N] where the generator has any.

        Args:
            num_images: N.
            generator: Of the draws, on the CPU.
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
        generator: Changed in place.
    """
    return generator.eval().requires_grad_(False)
