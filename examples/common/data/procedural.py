"""Built-in images with three independent factors: an upright shape, its texture and its colour.

Everything else varies: position, size, a tilt of a few degrees, the hue within its class, the
scale, phase and contrast of the texture, a two-coloured background, exposure and sensor noise.
An image is drawn at twice its size and averaged down, so edges are smooth.
"""

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.colors import hsv_to_rgb
from numpy.typing import NDArray

from examples.common.data.image_set import IMAGE_SIZE, ImageSet

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Coordinates: x to the right and y down, the shape fills about [-1, 1] in both.
SHAPES: dict[str, Callable[[Array, Array], Mask]] = {
    "arrow": lambda x, y: (
        ((y < 0) & (y > -1) & (np.abs(x) < 0.9 * (y + 1))) | ((y >= 0) & (y < 1) & (abs(x) < 0.3))
    ),
    "house": lambda x, y: (
        ((y < -0.2) & (y > -1) & (np.abs(x) < 1.25 * (y + 1)))
        | ((y >= -0.2) & (y < 0.9) & (np.abs(x) < 0.75) & ~((y > 0.3) & (np.abs(x) < 0.2)))
    ),
    "tee": lambda x, y: (
        ((np.abs(y + 0.65) < 0.3) & (np.abs(x) < 0.95)) | ((np.abs(y) < 0.95) & (np.abs(x) < 0.3))
    ),
    "heart": lambda x, y: (
        (1.25 * x) ** 2 + (-1.25 * y + 0.15 - 0.75 * np.sqrt(np.abs(1.25 * x))) ** 2 < 1
    ),
    "mushroom": lambda x, y: (
        ((x**2 + (y + 0.05) ** 2 < 0.9) & (y < 0)) | ((y >= 0) & (y < 0.9) & (np.abs(x) < 0.35))
    ),
    "pawn": lambda x, y: (
        (x**2 + (y + 0.5) ** 2 < 0.2) | ((y > -0.2) & (y < 0.95) & (np.abs(x) < 0.25 + 0.6 * y))
    ),
}
TEXTURES = ("plain", "stripes", "checker", "dots", "noise")
COLOURS = ("red", "yellow", "green", "cyan", "blue", "magenta")

FACTORS = {"shape": tuple(SHAPES), "texture": TEXTURES, "colour": COLOURS}

_SUPERSAMPLING = 2
_CHUNK = 250  # Images drawn at once: limits the memory; a shorter set is a prefix of a longer one.


def make_images(num_images: int, *, seed: int) -> ImageSet:
    """Draw labelled images.

    Args:
        num_images: Number of images; the first ones do not depend on it.
        seed: Different seeds give different images of the same distribution.
    """
    chunks = []
    for index in range(-(-num_images // _CHUNK)):
        chunks.append(_draw(np.random.default_rng([seed, index])))
    pixels = np.concatenate([chunk[0] for chunk in chunks])[:num_images]
    factors = np.concatenate([chunk[1] for chunk in chunks], axis=1)[:, :num_images]
    return ImageSet(
        images=torch.from_numpy(pixels),
        labels=dict(zip(FACTORS, factors, strict=True)),
        classes=dict(FACTORS),
    )


def _draw(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw one chunk: pixels [N, 3, S, S] and the classes of the three factors [3, N]."""
    num, size = _CHUNK, IMAGE_SIZE * _SUPERSAMPLING
    shape, texture, colour = (rng.integers(len(names), size=num) for names in FACTORS.values())

    def uniform(low: float, high: float) -> Array:
        return rng.uniform(low, high, (num, 1, 1)).astype(np.float32)

    row, column = np.meshgrid(*[np.linspace(-1, 1, size, dtype=np.float32)] * 2, indexing="ij")
    scale, tilt = uniform(0.5, 0.75), uniform(-0.15, 0.15)
    x0, y0 = (column - uniform(-0.25, 0.25)) / scale, (row - uniform(-0.25, 0.25)) / scale
    x, y = np.cos(tilt) * x0 - np.sin(tilt) * y0, np.sin(tilt) * x0 + np.cos(tilt) * y0
    inside = np.empty((num, size, size), bool)
    for label, is_inside in enumerate(SHAPES.values()):
        chosen = shape == label
        inside[chosen] = is_inside(x[chosen], y[chosen])

    dark = uniform(0.3, 0.5)  # How much darker the colour is where the texture is dark.
    shade = 1 - dark * _texture(rng, texture, row, column)
    middle = (colour / len(COLOURS)).astype(np.float32)[:, None, None]
    hue = (middle + uniform(-0.05, 0.05)) % 1
    figure = _rgb(hue, uniform(0.5, 1.0), uniform(0.6, 1.0)) * shade[:, None]
    ramp = (column * np.cos(turn := uniform(0, 2 * np.pi)) + row * np.sin(turn)) / 2.83 + 0.5
    ends = [_rgb(uniform(0, 1), uniform(0.1, 0.9), uniform(0.1, 0.9)) for _ in range(2)]
    ground = ends[0] + (ends[1] - ends[0]) * ramp[:, None]

    picture: Array = np.where(inside[:, None], figure, ground)
    small = picture.reshape(num, 3, IMAGE_SIZE, _SUPERSAMPLING, IMAGE_SIZE, _SUPERSAMPLING)
    exposed = small.mean(axis=(3, 5)) * uniform(0.7, 1.1)[:, None]
    noisy = exposed + 0.02 * rng.standard_normal(exposed.shape, dtype=np.float32)
    pixels = np.round(255 * noisy.clip(0, 1)).astype(np.uint8)
    return pixels, np.stack([shape, texture, colour])


def _texture(
    rng: np.random.Generator, texture: NDArray[np.int64], row: Array, column: Array
) -> Array:
    """Return how dark each texture makes each point, in [0, 1], as an array [N, S, S]."""
    num, size = len(texture), len(row)
    # In radians per unit: a period of 4 to 6.5 pixels of the final image.
    frequency = 2 * np.pi * rng.uniform(2.5, 4.0, (num, 1, 1)).astype(np.float32)
    angle, phase_u, phase_v = rng.uniform(0, 2 * np.pi, (3, num, 1, 1)).astype(np.float32)
    u = np.sin(frequency * (np.cos(angle) * column + np.sin(angle) * row) + phase_u)
    v = np.sin(frequency * (np.cos(angle) * row - np.sin(angle) * column) + phase_v)
    # One random grey per pixel of the final image.
    grain = rng.random((num, IMAGE_SIZE, IMAGE_SIZE), dtype=np.float32)
    grain = grain.repeat(size // IMAGE_SIZE, axis=1).repeat(size // IMAGE_SIZE, axis=2)
    patterns = {
        "plain": np.zeros_like(u),
        "stripes": u > 0,
        "checker": u * v > 0,
        "dots": (u > 0.2) & (v > 0.2),
        "noise": grain,
    }
    dark = np.empty((num, size, size), np.float32)
    for label, name in enumerate(TEXTURES):
        dark[texture == label] = patterns[name][texture == label]
    return dark


def _rgb(hue: Array, saturation: Array, value: Array) -> Array:
    """Return colours [N, 3, 1, 1] of arrays [N, 1, 1]."""
    colours = hsv_to_rgb(np.concatenate([hue, saturation, value], axis=2)).astype(np.float32)
    return np.moveaxis(colours, -1, 1)[..., None]
