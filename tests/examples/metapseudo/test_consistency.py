"""Consistency of features."""

import pytest
import torch

from examples.metapseudo.consistency import consistency


def test_consistency_is_zero_for_equal_directions_and_two_for_opposite_ones() -> None:
    features = torch.tensor([[3.0, 4.0], [1.0, -2.0]])
    turned = torch.tensor([[-4.0, 3.0], [2.0, 1.0]])
    assert float(consistency(features, features)) == pytest.approx(0, abs=1e-6)
    assert float(consistency(features, 5 * features)) == pytest.approx(0, abs=1e-6)
    assert float(consistency(features, turned)) == pytest.approx(1)
    assert float(consistency(features, -features)) == pytest.approx(2)


def test_consistency_is_a_mean_over_the_images() -> None:
    strong = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [3.0, 4.0]])
    weak = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]])
    assert float(consistency(strong, weak)) == pytest.approx((0 + 1 + 2 + 0.4) / 4)


def test_no_gradient_goes_to_the_targets() -> None:
    strong, targets = (torch.randn(5, 4, requires_grad=True) for _ in range(2))
    consistency(strong, targets).backward()  # type: ignore[no-untyped-call]
    assert targets.grad is None
    assert strong.grad is not None
    assert (strong.grad.abs().sum(1) > 0).all()
