"""A renderer of one figure on a ground, as a frozen generator: exact, sharp, and without weights.

It is a model of a generator that was trained on broad data. The difference is that what it can draw
is known, as every latent has a name. Its prior is broad by design: with latents from a standard
normal, most figures are partly or wholly off the canvas, tiny or larger than it, or too dark or too
bright.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from examples.common.data.image_set import IMAGE_SIZE
from examples.metapseudo.generators.generator import Generator

# Legend: N images, L latent size, S side of an image at twice its resolution.

SHAPES = ("disc", "square", "triangle", "cross", "ring", "heart")
TEXTURES = ("plain", "stripes", "checker", "dots")

# The latents: their names, and how many numbers each has.
LATENTS = {
    "place": 2,
    "size": 1,
    "turn": 2,  # a direction, as for everything that turns
    "shape": len(SHAPES),
    "texture": len(TEXTURES),
    "texture turn": 2,
    "frequency": 1,
    "phase": 2,
    "hue": 2,
    "saturation": 1,
    "brightness": 1,
    "contrast": 1,  # of the texture
    "ground from": 3,
    "ground to": 3,
    "ground turn": 2,
    "light": 1,
}

# The prior: standard deviations of the values that are normal, and the values at latents of zero.
PLACE_SD = 0.6  # the canvas goes from -1 to 1
SIZE, LOG_SIZE_MEAN, LOG_SIZE_SD = 0.6, -0.2, 0.7
FREQUENCY, LOG_FREQUENCY_SD = 3.2, 0.45  # periods in half a canvas
LOG_LIGHT_MEAN, LOG_LIGHT_SD = -0.15, 0.72

_BATCH = 50  # Images drawn at once; so few stay in the processor's cache.

_SHARPNESS = 4.0  # How clearly the greatest latent decides the shape, and the texture.


def named(latents: Tensor) -> dict[str, Tensor]:
    """Return the latents by name.

    Args:
        latents: Latents [N, L].
    """
    parts = torch.split(latents, list(LATENTS.values()), dim=1)
    return dict(zip(LATENTS, parts, strict=True))


class Renderer(Generator):
    """Draws a figure of some shape, texture and colour on a ground that fades between two colours.

    Images are drawn at twice their resolution and averaged. Everything is differentiable: edges
    are one or two pixels wide, and shapes and textures are mixtures in which the one with the
    greatest latent dominates.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.latent_size = sum(LATENTS.values())
        self.num_classes = 0
        side = 2 * IMAGE_SIZE
        centres = (torch.arange(side) + 0.5) * (2 / side) - 1
        rows, columns = torch.meshgrid(centres, centres, indexing="ij")
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    def forward(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return images [N, 3, 32, 32] in [0, 1].

        Args:
            latents: Latents [N, L], in the order of ``LATENTS``.
            classes: Not used, as the generator has none.
        """
        part = named(latents)
        figure = _colour(part["hue"], part["saturation"], part["brightness"])[:, :, None, None]
        depth = 0.2 + 0.5 * torch.sigmoid(part["contrast"])
        figure = figure * (1 - (depth[:, :, None] * self._texture(part))[:, None])
        ground = self._ground(part)
        image = ground + (figure - ground) * self._inside(part)[:, None]
        light = torch.exp(LOG_LIGHT_SD * part["light"] + LOG_LIGHT_MEAN)
        return functional.avg_pool2d(image * light[:, :, None, None], 2).clamp(0, 1)

    def _inside(self, part: dict[str, Tensor]) -> Tensor:
        """How much of each pixel the figure covers [N, S, S]."""
        place = PLACE_SD * part["place"]
        size = SIZE * torch.exp(LOG_SIZE_SD * part["size"] + LOG_SIZE_MEAN)
        across = (self.columns - place[:, :1, None]) / size[:, :, None]
        down = (self.rows - place[:, 1:, None]) / size[:, :, None]
        cos, sin = _direction(part["turn"])
        distances = _distances(cos * across - sin * down, sin * across + cos * down)
        pixel = (1 / IMAGE_SIZE / size)[:, :, None, None].clamp(min=0.02)
        chosen = (_SHARPNESS * part["shape"]).softmax(dim=1)[:, :, None, None]
        return (chosen * torch.sigmoid(-distances / pixel)).sum(dim=1)

    def _texture(self, part: dict[str, Tensor]) -> Tensor:
        """How dark the texture is at each pixel [N, S, S], in [0, 1]."""
        frequency = FREQUENCY * torch.exp(LOG_FREQUENCY_SD * part["frequency"])
        radians = 2 * math.pi * frequency[:, :, None]
        cos, sin = _direction(part["texture turn"])
        phase = 3 * part["phase"]
        along = torch.sin(radians * (cos * self.columns + sin * self.rows) + phase[:, :1, None])
        across = torch.sin(radians * (cos * self.rows - sin * self.columns) + phase[:, 1:, None])
        textures = torch.stack(
            [
                torch.zeros_like(along),
                _step(along),
                _step(2 * along * across),
                _step(along - 0.2) * _step(across - 0.2),
            ],
            dim=1,
        )
        chosen = (_SHARPNESS * part["texture"]).softmax(dim=1)[:, :, None, None]
        return (chosen * textures).sum(dim=1)

    def _ground(self, part: dict[str, Tensor]) -> Tensor:
        """The ground [N, 3, S, S]."""
        start, end = torch.sigmoid(part["ground from"]), torch.sigmoid(part["ground to"])
        cos, sin = _direction(part["ground turn"])
        ramp = (cos * self.columns + sin * self.rows) / (2 * math.sqrt(2)) + 0.5
        return start[:, :, None, None] + (end - start)[:, :, None, None] * ramp[:, None]


@torch.no_grad()
def render(latents: Tensor) -> Tensor:
    """Return any number of images [N, 3, 32, 32] in [0, 1], drawn in batches.

    Args:
        latents: Latents [N, L].
    """
    renderer = Renderer()
    return torch.cat([renderer(batch) for batch in torch.split(latents, _BATCH)])


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """About how far points are from the edge of each shape [N, shapes, S, S]; negative inside."""
    radius = (x.square() + y.square() + 1e-6).sqrt()
    disc = radius - 0.8
    square = torch.maximum(x.abs(), y.abs()) - 0.72
    triangle = torch.maximum(y - 0.7, 0.87 * x.abs() - 0.5 * y - 0.45)
    upright = torch.maximum(x.abs() - 0.28, y.abs() - 0.85)
    lying = torch.maximum(y.abs() - 0.28, x.abs() - 0.85)
    cross = torch.minimum(upright, lying)
    ring = (radius - 0.62).abs() - 0.22
    across, up = 1.2 * x, 0.15 - 1.2 * y
    lobes = up - 0.75 * (across.abs() + 1e-3).sqrt()
    heart = 0.5 * (across.square() + lobes.square() - 1)
    return torch.stack([disc, square, triangle, cross, ring, heart], dim=1)


def _colour(hue: Tensor, saturation: Tensor, brightness: Tensor) -> Tensor:
    """Red, green and blue [N, 3]: the direction of ``hue`` is an angle on the colour circle."""
    unit = hue / (hue.norm(dim=1, keepdim=True) + 1e-4)
    angles = hue.new_tensor([0, 2 * math.pi / 3, 4 * math.pi / 3])
    pure = 0.5 + 0.65 * (unit[:, :1] * angles.cos() + unit[:, 1:] * angles.sin())
    share = torch.sigmoid(saturation + 1)
    colour: Tensor = torch.sigmoid(brightness + 1.2) * (1 - share + share * pure.clamp(0, 1))
    return colour


def _direction(turn: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of an angle, both [N, 1, 1]."""
    unit = turn / (turn.norm(dim=1, keepdim=True) + 1e-4)
    return unit[:, :1, None], unit[:, 1:, None]


def _step(wave: Tensor) -> Tensor:
    """A wave with steep flanks, between 0 and 1."""
    return torch.sigmoid(6 * wave)
