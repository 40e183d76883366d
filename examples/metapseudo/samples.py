"""Where unlabelled images come from: nowhere, a generator, or the target itself."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from examples.common import transforms
from examples.metapseudo.classifier import Classifier, probabilities
from examples.metapseudo.config import RunConfig
from examples.metapseudo.data.load import Target
from examples.metapseudo.data.target import COLOURS, is_target_like, target_latents
from examples.metapseudo.generators.generator import Generator
from examples.metapseudo.generators.source import Source
from examples.metapseudo.mapping import build_mapping

_NUM_FOR_SHARE = 2000


@dataclass
class RealImages:
    """The target's own unlabelled images, which the other variants never see.

    Attributes:
        images: 8-bit images [N, 3, 32, 32].
    """

    images: Tensor

    def draw(self, num_images: int, draws: torch.Generator) -> Tensor:
        """Return images [N, 3, 32, 32] in [0, 1].

        Args:
            num_images: Number N of images.
            draws: Generator of random numbers, on the CPU.
        """
        chosen = torch.randint(len(self.images), (num_images,), generator=draws)
        return transforms.to_float(self.images[chosen])


@dataclass
class PerfectImages:
    """Images of the renderer whose latents have the distribution of the built-in target.

    Attributes:
        renderer: The renderer, frozen.
    """

    renderer: Generator

    @torch.no_grad()
    def draw(self, num_images: int, draws: torch.Generator) -> Tensor:
        """Return images [N, 3, 32, 32] in [0, 1].

        Args:
            num_images: Number N of images.
            draws: Generator of random numbers, on the CPU.
        """
        labels = torch.randint(len(COLOURS), (num_images,), generator=draws)
        images: Tensor = self.renderer(target_latents(labels, draws))
        return images


@dataclass
class GeneratedImages:
    """Images of a generator: x̃ = G(M(z), c).

    Attributes:
        generator: The generator G, frozen.
        shares: Probability of each class of the generator [C]; None if all are equally likely.
        mapping: The map M of the latents, or None if they are not moved.
    """

    generator: Generator
    shares: Tensor | None = None
    mapping: nn.Module | None = None

    def latents(self, num_images: int, draws: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Draw latents [N, L] and classes [N]; the map is not applied yet.

        Args:
            num_images: Number N of images.
            draws: Generator of random numbers, on the CPU.
        """
        return self.generator.draw(num_images, draws, self.shares)

    def mapped(self, latents: Tensor) -> Tensor:
        """Return the latents [N, L] that the generator is given: M(z).

        Args:
            latents: The latents as they were drawn [N, L].
        """
        return latents if self.mapping is None else self.mapping(latents)

    def synthesize(self, latents: Tensor, classes: Tensor | None) -> Tensor:
        """Return images [N, 3, 32, 32] in [0, 1], differentiable in the map's parameters.

        Args:
            latents: The latents as they were drawn [N, L].
            classes: The classes as they were drawn [N], or None if the generator has none.
        """
        images: Tensor = self.generator(self.mapped(latents), classes)
        return images

    @torch.no_grad()
    def draw(self, num_images: int, draws: torch.Generator) -> Tensor:
        """Return images [N, 3, 32, 32] in [0, 1].

        Args:
            num_images: Number N of images.
            draws: Generator of random numbers, on the CPU.
        """
        return self.synthesize(*self.latents(num_images, draws))


def build_samples(
    config: RunConfig, target: Target, source: Source | None, mapping: nn.Module | None = None
) -> RealImages | PerfectImages | GeneratedImages | None:
    """Return the source of a run's unlabelled images, or None if it has none.

    Args:
        config: The options of the run.
        target: The target, whose own images are the real samples.
        source: The generator and the classifier of the source, or None if the run needs neither.
        mapping: The map of the latents, if it was found before.

    Raises:
        ValueError: The classes of the samples are asked for, and the source has no classifier.
    """
    if config.samples == "none":
        return None
    if config.samples == "real":
        return RealImages(target.unlabelled)
    assert source is not None
    if config.samples == "perfect":
        return PerfectImages(source.generator)
    shares = None
    if config.samples == "classes":
        if source.classifier is None:
            raise ValueError(
                "samples='classes' needs a classifier of the generator's classes: of an "
                "autoencoder, not of the renderer and not of a published generator"
            )
        shares = shares_of(source.classifier, target)
    if config.samples == "optimized" and config.order == "alternating":
        mapping = build_mapping(config.map, source.generator.latent_size, seed=config.seed)
    assert (mapping is not None) == (config.samples == "optimized")
    return GeneratedImages(source.generator, shares, mapping)


@torch.no_grad()
def share_of_target(samples: GeneratedImages, draws: torch.Generator) -> float:
    """Return the share of samples that are like the built-in target.

    Args:
        samples: Samples of the renderer.
        draws: Generator of random numbers, on the CPU.
    """
    latents, _ = samples.latents(_NUM_FOR_SHARE, draws)
    return float(is_target_like(samples.mapped(latents)).double().mean())


def shares_of(classifier: Classifier, target: Target) -> Tensor:
    """Return the mean class probabilities [C] that a source classifier gives the labelled images.

    P-SSL draws the classes of its samples in these shares (Yamaguchi et al., Transfer Learning with
    Pre-trained Conditional Generative Models, arXiv 2204.12833).

    Args:
        classifier: A classifier of the source's classes.
        target: The target with its labelled images.
    """
    return probabilities(classifier, target.labelled.images).mean(dim=0)
