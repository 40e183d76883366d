"""The built-in images: known, independent factors, from a seed."""

import numpy as np
import pytest
import torch

from examples.common.data.image_set import ImageSet
from examples.common.data.procedural import FACTORS, make_images


def test_images_are_8_bit_colour_with_three_labelled_factors() -> None:
    images = make_images(700, seed=0)
    assert images.images.shape == (700, 3, 32, 32)
    assert images.images.dtype == torch.uint8
    assert images.classes == FACTORS
    for factor, names in FACTORS.items():
        assert set(images.labels[factor].tolist()) == set(range(len(names)))


def test_the_seed_decides_the_images_and_a_shorter_set_is_a_prefix() -> None:
    torch.manual_seed(0)
    first = make_images(600, seed=3)
    torch.manual_seed(1)
    short, other = make_images(80, seed=3), make_images(80, seed=4)
    assert torch.equal(first.images[:80], short.images)
    assert np.array_equal(first.labels["shape"][:80], short.labels["shape"])
    assert not torch.equal(short.images, other.images)


@pytest.fixture(scope="module")
def many() -> ImageSet:
    return make_images(2000, seed=0)


def test_the_factors_are_independent(many: ImageSet) -> None:
    labels = many.labels
    for first, second in (("shape", "texture"), ("shape", "colour"), ("texture", "colour")):
        num_second = len(FACTORS[second])
        num_cells = len(FACTORS[first]) * num_second
        joint = np.bincount(labels[first] * num_second + labels[second], minlength=num_cells)
        expected = 2000 / num_cells
        assert np.abs(joint - expected).max() < 5 * np.sqrt(expected), (first, second)


def test_shapes_are_upright_so_that_rotation_is_well_defined(many: ImageSet) -> None:
    # Averaged over positions, textures and colours, what differs from the background's four
    # corners is the shape: it is symmetric under a flip, and under no rotation.
    pixels = many.images.float()
    corners = pixels[:, :, ::31, ::31].mean(dim=(2, 3), keepdim=True)
    contrast = (pixels - corners).abs().mean(dim=1)
    for label, name in enumerate(FACTORS["shape"]):
        mean = contrast[torch.from_numpy(many.labels["shape"] == label)].mean(dim=0)
        flipped = (mean - mean.flip(1)).abs().mean()
        for turns in (1, 2, 3):
            assert (mean - mean.rot90(turns)).abs().mean() > 1.5 * flipped, (name, turns)


def test_each_factor_shows_in_the_middle_of_the_image(many: ImageSet) -> None:
    middle = many.images[:, :, 12:20, 12:20].double()
    hue_is_red = (middle[:, 0] > middle[:, 1]) & (middle[:, 0] > middle[:, 2])
    share = [hue_is_red[many.labels["colour"] == c].double().mean() for c in range(6)]
    assert share[0] > 0.8 > 0.2 > share[3], "red is red and cyan is not"
    roughness = middle.diff(dim=3).abs().mean(dim=(1, 2, 3))
    by_texture = [roughness[many.labels["texture"] == t].mean() for t in range(5)]
    assert min(by_texture[1:]) > 1.3 * by_texture[0], "only plain is plain"


def test_the_default_images_are_those_of_earlier_versions() -> None:
    images, rng = make_images(50, seed=3), np.random.default_rng([3, 0])
    for factor, names in FACTORS.items():
        expected = rng.integers(len(names), size=250)[:50]
        assert images.labels[factor].tolist() == expected.tolist(), factor
