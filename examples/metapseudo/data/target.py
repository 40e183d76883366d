"""The built-in target: a narrow part of the renderer's prior, which the classifier has to learn.

Its images show one upright figure of any shape, about in the middle, about as large as the canvas
and well lit, with stripes or a checker. The class is the colour of the figure. The target is
written down as a distribution of latents. So it is known of every sample whether it is of the
target, and perfect samples exist.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from examples.metapseudo.generators.renderer import (
    LATENTS,
    LOG_FREQUENCY_SD,
    LOG_LIGHT_SD,
    LOG_SIZE_MEAN,
    LOG_SIZE_SD,
    PLACE_SD,
    SHAPES,
    TEXTURES,
    named,
    render,
)

# Legend: N images, L latent size.

COLOURS = ("red", "yellow", "green", "cyan", "blue", "magenta")

# The target in the units of the canvas: standard deviations about the middle, the size 0.6 and the
# light 1 (but for the prior's mean), and the largest deviations from there.
TARGET_SD = {"place": 0.15, "size": 0.15, "light": 0.12}
TARGET_BOUND = {"place": 0.35, "size": 0.35, "light": 0.3}
TURN_SD = 0.15  # radians
TARGET_LOG_FREQUENCY_SD = 0.15
TARGET_TEXTURES = ("stripes", "checker")
HUE_WIDTH = 0.1 * 2 * math.pi  # width of a class, of the 2π/6 that it could have
PIXEL_SD = 0.02  # standard deviation of the noise on images of the target

# From a latent to its value in the canvas' units: value = sd · latent + mean.
_SD = {"place": PLACE_SD, "size": LOG_SIZE_SD, "light": LOG_LIGHT_SD}
_MEAN = {"place": 0.0, "size": LOG_SIZE_MEAN, "light": 0.0}


def target_latents(labels: Tensor, draws: torch.Generator) -> Tensor:
    """Draw latents of the target [N, L].

    Args:
        labels: Colours, as indexes of ``COLOURS`` [N].
        draws: Generator of random numbers, on the CPU.
    """
    num = len(labels)
    part = {name: torch.randn(num, size, generator=draws) for name, size in LATENTS.items()}
    for name, sd in TARGET_SD.items():
        bound = TARGET_BOUND[name]
        value = (sd * part[name]).clamp(-bound, bound)
        part[name] = (value - _MEAN[name]) / _SD[name]
    part["turn"] = _unit(TURN_SD * part["turn"][:, :1])
    part["shape"] = _choice(torch.randint(len(SHAPES), (num,), generator=draws), len(SHAPES))
    textures = torch.tensor([TEXTURES.index(name) for name in TARGET_TEXTURES])
    drawn = torch.randint(len(textures), (num,), generator=draws)
    part["texture"] = _choice(textures[drawn], len(TEXTURES))
    part["frequency"] = part["frequency"] * (TARGET_LOG_FREQUENCY_SD / LOG_FREQUENCY_SD)
    middle = 2 * math.pi / len(COLOURS) * labels[:, None]
    angle = middle + HUE_WIDTH * (torch.rand(num, 1, generator=draws) - 0.5)
    part["hue"] = _unit(angle) * (1 + 0.3 * torch.rand(num, 1, generator=draws))
    part["saturation"] = part["saturation"].abs()
    return torch.cat([part[name] for name in LATENTS], dim=1)


def is_target_like(latents: Tensor) -> Tensor:
    """Return whether figures are placed, sized and lit like those of the target [N].

    The other latents are not compared. These three are the reason why most of the prior is of no
    use, while a wrong texture or turn leaves the colour of a figure visible.

    Args:
        latents: Latents [N, L].
    """
    part = named(latents)
    within = [
        ((_SD[name] * part[name] + _MEAN[name]).abs() <= bound + 1e-4).all(dim=1)
        for name, bound in TARGET_BOUND.items()
    ]
    return torch.stack(within).all(dim=0)


def target_images(num_images: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return 8-bit images of the target [N, 3, 32, 32] and labels [N], as many of each class.

    Args:
        num_images: Number of images, N.
        draws: Generator of random numbers, on the CPU.
    """
    labels = torch.arange(num_images) % len(COLOURS)
    images = render(target_latents(labels, draws))
    noisy = images + PIXEL_SD * torch.randn(images.shape, generator=draws)
    return (255 * noisy.clamp(0, 1)).round().to(torch.uint8), labels


def _choice(chosen: Tensor, number: int) -> Tensor:
    """Latents of which the chosen one is clearly the greatest."""
    return 2.5 * functional.one_hot(chosen, number) - 0.5


def _unit(angle: Tensor) -> Tensor:
    return torch.cat([angle.cos(), angle.sin()], dim=1)
