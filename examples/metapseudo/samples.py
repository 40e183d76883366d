"""Where unlabelled images come from: nowhere, a generator, or the target itself."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from examples.common import transforms
from examples.metapseudo.classifier import Classifier, probabilities
from examples.metapseudo.data import Target
from examples.metapseudo.generators.generator import Generator
from examples.metapseudo.target import COLOURS, is_target_like, target_latents

_NUM_FOR_SHARE = 2000


@dataclass
class RealImages:
    """The target's own unlabelled images: what the others have to do without.

    Attributes:
        images: 8-bit images [N, 3, 32, 32].
    """

    images: Tensor

    def draw(self, num_images: int, draws: torch.Generator) -> Tensor:
        """Return images [N, 3, 32, 32] in [0, 1].

        Args:
            num_images: N.
            draws: On the CPU.
        """
        chosen = torch.randint(len(self.images), (num_images,), generator=draws)
        return transforms.to_float(self.images[chosen])


@dataclass
class PerfectImages:
    """Images of the renderer, with latents of the built-in target's own distribution.

    Attributes:
        renderer: Frozen.
    """

    renderer: Generator

    @torch.no_grad()
    def draw(self, num_images: int, draws: torch.Generator) -> Tensor:
        """Return images [N, 3, 32, 32] in [0, 1].

        Args:
            num_images: N.
            draws: On the CPU.
        """
        labels = torch.randint(len(COLOURS), (num_images,), generator=draws)
        images: Tensor = self.renderer(target_latents(labels, draws))
        return images


@dataclass
class GeneratedImages:
    """Images of a generator.

    Attributes:
        generator: Frozen.
        shares: Probability of each of its classes [C], or None for equal ones.
        mapping: Moves the latents before they become images, or None.
    """

    generator: Generator
    shares: Tensor | None = None
    mapping: nn.Module | None = None

    def latents(self, num_images: int, draws: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Return latents [N, L] and classes [N] as they are drawn, before they are mapped.

        Args:
            num_images: N.
            draws: On the CPU.
        """
        return self.generator.draw(num_images, draws, self.shares)

    def mapped(self, latents: Tensor) -> Tensor:
        """Return latents [N, L] as the generator is given them.

        Args:
            latents: As they were drawn [N, L].
        """
        return latents if self.mapping is None else self.mapping(latents)

    def synthesize(self, latents: Tensor, classes: Tensor | None) -> Tensor:
        """Return images [N, 3, 32, 32] in [0, 1], differentiable in the map's parameters.

        Args:
            latents: As they were drawn [N, L].
            classes: Likewise [N].
        """
        images: Tensor = self.generator(self.mapped(latents), classes)
        return images

    @torch.no_grad()
    def draw(self, num_images: int, draws: torch.Generator) -> Tensor:
        """Return images [N, 3, 32, 32] in [0, 1].

        Args:
            num_images: N.
            draws: On the CPU.
        """
        return self.synthesize(*self.latents(num_images, draws))


@torch.no_grad()
def share_of_target(samples: GeneratedImages, draws: torch.Generator) -> float:
    """Return which share of the renderer's samples is like the built-in target.

    Args:
        samples: Of the renderer.
        draws: On the CPU.
    """
    latents, _ = samples.latents(_NUM_FOR_SHARE, draws)
    return float(is_target_like(samples.mapped(latents)).double().mean())


def shares_of(classifier: Classifier, target: Target) -> Tensor:
    """Return how a source classifier sees the labelled images: its mean probabilities [C].

    Latents of these classes are those of P-SSL (Yamaguchi et al., Transfer Learning with
    Pre-trained Conditional Generative Models, arXiv 2204.12833).

    Args:
        classifier: Of the source's classes.
        target: Whose labelled images are looked at.
    """
    return probabilities(classifier, target.labelled.images).mean(dim=0)
