"""Gaps: zero for the same distribution, and an optimizer can close them."""

from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from examples.metapseudo.classifier import build_classifier
from examples.metapseudo.gaps import GAPS, GapName, mean_gap, mmd_gap, moments_gap, of_all_blocks
from examples.metapseudo.generators.renderer import Renderer

NAMES = get_args(GapName)


def normal(num: int, *, seed: int, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return shift + scale * torch.randn(num, 10, generator=draws)


@pytest.mark.parametrize("name", NAMES)
def test_equal_samples_have_no_gap_and_others_have_one(name: GapName) -> None:
    distance = GAPS[name].distance
    real = normal(500, seed=0)
    same = float(distance(real, normal(500, seed=1)))
    moved = float(distance(real, normal(500, seed=1, shift=0.5)))
    assert moved > 10 * abs(same)
    if name != "mmd":  # which leaves each image's likeness to itself out
        assert float(distance(real, real.flip(0))) == pytest.approx(0, abs=1e-10)
    assert abs(same) < 0.1


def test_the_mean_gap_is_the_squared_distance_of_the_means() -> None:
    real = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    synthetic = torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]], requires_grad=True)
    gap = mean_gap(real, synthetic)
    assert float(gap.detach()) == pytest.approx(1**2 + 2**2)
    gap.backward()  # type: ignore[no-untyped-call]
    expected = torch.tensor([[-2.0, -4.0]]).expand(3, 2) / 3
    torch.testing.assert_close(synthetic.grad, expected)


def test_moments_see_a_spread_that_means_do_not_and_mmd_sees_both() -> None:
    real, wide = normal(400, seed=0), normal(400, seed=1, scale=2.0)
    wide = wide - wide.mean(dim=0) + real.mean(dim=0)
    assert float(mean_gap(real, wide)) == pytest.approx(0, abs=1e-10)
    # The variance is four times the other, in units of the real one's.
    assert float(moments_gap(real, wide)) == pytest.approx((4.05 / 1.05) ** 0, abs=2)
    assert float(moments_gap(real, wide)) > 1
    assert float(mmd_gap(real, wide)) > 0.05


def test_mmd_is_that_of_its_definition_and_has_no_bias() -> None:
    real, synthetic = normal(7, seed=0), normal(5, seed=1, shift=0.3)

    def kernel(a: Tensor, b: Tensor) -> float:
        distance = float((a - b).square().sum()) / 10
        return sum(float(torch.exp(torch.tensor(-distance / h))) for h in (0.5, 1, 2, 4))

    mean, sd = real.mean(dim=0), real.std(dim=0) + 1e-3
    r, s = (real - mean) / sd, (synthetic - mean) / sd
    within = [
        sum(kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j)
        / (len(x) * (len(x) - 1))
        for x in (r, s)
    ]
    between = sum(kernel(a, b) for a in r for b in s) / (len(r) * len(s))
    expected = sum(within) - 2 * between
    assert float(mmd_gap(real, synthetic)) == pytest.approx(expected, rel=1e-4)
    gaps = [float(mmd_gap(normal(200, seed=2 * i), normal(20, seed=2 * i + 1))) for i in range(40)]
    assert abs(sum(gaps) / 40) < 0.02


def test_features_of_all_blocks_are_of_four_cells_each() -> None:
    classifier, images = build_classifier(6, seed=0), torch.rand(3, 3, 32, 32)
    features = of_all_blocks(classifier, images)
    assert features.shape == (3, 4 * (32 + 48 + 64 + 96))
    taps = classifier.trunk.taps((images - 0.5) / 0.25)
    cells = functional.avg_pool2d(taps[-1], 2).flatten(1)
    torch.testing.assert_close(features[:, -4 * 96 :], cells)
    torch.testing.assert_close(GAPS["mean"].features(classifier, images), taps[-1].mean(dim=(2, 3)))


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_closes_the_gap_of_images(name: GapName) -> None:
    renderer, classifier = Renderer(), build_classifier(6, seed=0).requires_grad_(False)
    draws = torch.Generator().manual_seed(0)
    latents = torch.randn(40, 34, generator=draws)
    real = renderer(latents[:20])
    shift = torch.zeros(34)
    shift[[0, -1]] = 2.0  # off the canvas, and too bright
    shift.requires_grad_()
    optimizer = torch.optim.Adam([shift], lr=0.1)
    found = []
    for _ in range(25):
        gap = GAPS[name](classifier, real, renderer(latents[20:] + shift))
        found.append(gap.item())
        optimizer.zero_grad()
        gap.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert found[-1] < 0.6 * found[0]
    assert shift[-1].item() < 1.5, "towards what the real images have"


def test_no_gradient_goes_to_the_real_images() -> None:
    classifier = build_classifier(6, seed=0)
    real, synthetic = (torch.rand(4, 3, 32, 32, requires_grad=True) for _ in range(2))
    GAPS["mmd"](classifier, real, synthetic).backward()  # type: ignore[no-untyped-call]
    assert real.grad is None
    assert synthetic.grad is not None
