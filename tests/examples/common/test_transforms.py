"""The batched operations agree with Pillow's, with one parameter per image."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from examples.common import transforms
from examples.mpssl.pretext import TASKS

Pillow = Callable[[Image.Image, float], Image.Image]

PILLOW: dict[str, Pillow] = {
    "rotation": lambda image, turns: image.rotate(90 * turns),
    "brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "saturation": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
    "solarization": lambda image, threshold: ImageOps.solarize(image, int(256 * min(threshold, 1))),
    "posterization": lambda image, bits: ImageOps.posterize(image, int(bits)),
}
# In 8-bit levels. Pillow cuts a blend's fraction off (1), and saturation and contrast blend with a
# grey that it has rounded (half a level, times |1 - factor| <= 1; contrast rounds its mean too).
TOLERANCE = {
    "rotation": 0.0,
    "brightness": 1.0,
    "contrast": 2.0,
    "saturation": 1.5,
    "sharpness": 1.0,
    "solarization": 0.0,
    "posterization": 0.0,
}
LEVELS = [(name, level) for name, task in TASKS.items() for level in task.levels]


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Smooth structure, texture, and patches of pure black, white and colour, as 8-bit integers."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[0:32, 0:32] / 32
    phase = rng.uniform(0, 6, (6, 3, 1, 1))
    smooth = 0.5 + 0.5 * np.sin(rng.uniform(2, 9, (6, 3, 1, 1)) * row + 5 * column + phase)
    grain = rng.normal(0, 0.08, smooth.shape)
    pixels = np.round(255 * np.clip(smooth + grain, 0, 1)).astype(np.uint8)
    pixels[:, :, :4, :4] = 255
    pixels[:, :, -4:, -4:] = 0
    pixels[:, 1, 10:14, :6] = np.arange(0, 240, 10).reshape(4, 6)
    return torch.from_numpy(pixels)


def by_pillow(name: str, image: Tensor, level: float) -> Tensor:
    result = PILLOW[name](Image.fromarray(image.permute(1, 2, 0).numpy()), level)
    return torch.from_numpy(np.asarray(result).copy()).permute(2, 0, 1).float()


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_each_level_agrees_with_pillow(images: Tensor, name: str, level: float) -> None:
    ours = 255 * TASKS[name].apply(transforms.to_float(images), torch.full((len(images),), level))
    pillow = torch.stack([by_pillow(name, image, level) for image in images])
    assert (ours - pillow).abs().max() <= TOLERANCE[name] + 1e-3


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize_is_exact_for_every_8_bit_value(bits: int) -> None:
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    ours = transforms.posterize(transforms.to_float(values), torch.tensor([float(bits)]))
    assert torch.equal((255 * ours[0]).round(), by_pillow("posterization", values[0], bits))


def test_posterize_forgives_the_rounding_of_earlier_operations() -> None:
    levels = torch.arange(256.0).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    bits = torch.tensor([3.0])
    below = transforms.posterize((levels - 1e-3) / 255, bits)
    torch.testing.assert_close(below, transforms.posterize(levels / 255, bits))


def test_solarize_inverts_at_the_threshold_and_not_below() -> None:
    images = torch.tensor([0.7499, 0.75, 1.0]).reshape(1, 1, 1, 3)
    inverted = transforms.solarize(images, torch.tensor([0.75]))
    torch.testing.assert_close(inverted.flatten(), torch.tensor([0.7499, 0.25, 0.0]))


@pytest.mark.parametrize("name", TASKS)
def test_the_identity_level_changes_no_bit(name: str) -> None:
    images = torch.rand((4, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    images[0] = 1.0  # White, which a solarization threshold of 1 would turn black.
    task = TASKS[name]
    parameters = torch.full((4,), task.levels[task.identity])
    assert torch.equal(task.apply(images, parameters), images)


@pytest.mark.parametrize("name", TASKS)
def test_every_image_gets_its_own_level(images: Tensor, name: str) -> None:
    task, floats = TASKS[name], transforms.to_float(images)
    levels = torch.tensor(task.levels)[torch.tensor([3, 0, 2, 1, 2, 3])]
    together = task.apply(floats, levels)
    alone = [task.apply(floats[i : i + 1], levels[i : i + 1]) for i in range(len(images))]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-6)
    others = task.apply(floats, levels.flip(0))
    assert not torch.allclose(together, others, atol=1e-3), "the levels made no difference"


def test_a_rotation_of_images_that_are_not_square_is_refused() -> None:
    with pytest.raises(ValueError, match="square"):
        transforms.rotate(torch.zeros(1, 3, 4, 5), torch.zeros(1))


def test_crop_and_flip_shows_a_window_of_the_mirrored_image() -> None:
    column = torch.arange(32.0).expand(1, 1, 32, 32)
    position = torch.cat([column, column.transpose(2, 3)], dim=1).expand(400, 2, 32, 32)
    out = transforms.crop_and_flip(position, torch.Generator().manual_seed(0))
    steps = out[:, 0, 16, 17] - out[:, 0, 16, 16]
    assert 140 < int((steps == -1).sum()) < 260, "about half are flipped"
    assert (out[:, 1, 17, 16] - out[:, 1, 16, 16] == 1).all(), "none is upside down"
    offsets = out[:, 1, 16, 16] - 16
    assert set(offsets.tolist()) == set(range(-4, 5)), "shifts of up to 4 pixels, all of them"
    assert out.min() == 0
    assert out.max() == 31


def test_crop_and_flip_depends_on_its_generator_only() -> None:
    images = torch.rand((8, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    draws = []
    for global_seed, seed in ((0, 5), (1, 5), (0, 6)):
        torch.manual_seed(global_seed)
        draws.append(transforms.crop_and_flip(images, torch.Generator().manual_seed(seed)))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_what_a_crop_shows_beyond_the_border_is_mirrored_without_repeating_it() -> None:
    images = torch.rand(200, 3, 8, 8)
    cropped = transforms.crop_and_flip(images, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4), mode="reflect")
    for before, after in zip(padded, cropped, strict=True):
        shown = (before[:, y : y + 8, x : x + 8] for y in range(9) for x in range(9))
        assert any(torch.equal(after, s) or torch.equal(after, s.flip(2)) for s in shown)
