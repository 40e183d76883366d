"""Consistency of features; pseudo-labels: which of them count, and how the thresholds follow."""

import pytest
import torch
from torch import Tensor

from examples.metapseudo.regularizers import FreeMatch, consistency


def logits(*probabilities: list[float]) -> Tensor:
    return torch.tensor(probabilities).log()


def test_the_thresholds_of_two_updates() -> None:
    freematch = FreeMatch(2, momentum=0.5)
    assert float(freematch.threshold) == 0.5
    assert freematch.shares.tolist() == [0.5, 0.5]

    labels, passed = freematch.targets(logits([0.9, 0.1], [0.6, 0.4]))
    assert float(freematch.threshold) == pytest.approx(0.5 * 0.5 + 0.5 * 0.75)
    assert freematch.shares.tolist() == pytest.approx([0.625, 0.375])
    assert labels.tolist() == [0, 0]
    assert passed.tolist() == [True, False], "the threshold of class 0 is 0.625"

    labels, passed = freematch.targets(logits([0.3, 0.7], [0.55, 0.45]))
    assert float(freematch.threshold) == pytest.approx(0.5 * 0.625 + 0.5 * 0.625)
    assert freematch.shares.tolist() == pytest.approx([0.525, 0.475])
    assert labels.tolist() == [1, 0]
    assert passed.tolist() == [True, False]


def test_the_thresholds_move_slowly_by_default() -> None:
    freematch = FreeMatch(4)
    freematch.targets(logits([0.97, 0.01, 0.01, 0.01]))
    assert float(freematch.threshold) == pytest.approx(0.99 * 0.25 + 0.01 * 0.97)
    assert freematch.shares[0] == pytest.approx(0.99 * 0.25 + 0.01 * 0.97)


def test_a_rarer_class_has_a_lower_threshold() -> None:
    freematch = FreeMatch(2, momentum=1.0)
    freematch.load_state_dict({"threshold": torch.tensor(0.7), "shares": torch.tensor([0.6, 0.3])})
    _, passed = freematch.targets(logits([0.65, 0.35], [0.35, 0.65], [0.75, 0.25]))
    assert passed.tolist() == [False, True, True], "the thresholds are 0.7 and 0.35"


def test_labels_that_do_not_pass_do_not_count() -> None:
    strong = logits([0.5, 0.5], [0.25, 0.75], [0.9, 0.1]).requires_grad_()
    labels, passed = torch.tensor([0, 0, 1]), torch.tensor([True, True, False])
    loss = FreeMatch.loss(strong, labels, passed)
    expected = -(torch.tensor(0.5).log() + torch.tensor(0.25).log()) / 3
    assert float(loss.detach()) == pytest.approx(float(expected)), "a mean over all, passed or not"
    loss.backward()  # type: ignore[no-untyped-call]
    assert strong.grad is not None
    assert (strong.grad[2] == 0).all()
    assert (strong.grad[:2] != 0).all()
    nothing = torch.zeros(3, dtype=torch.bool)
    assert (FreeMatch.loss(strong, labels, nothing) == 0).all()


def test_no_gradient_goes_through_the_weak_logits() -> None:
    freematch = FreeMatch(2)
    weak, strong = logits([0.9, 0.1]).requires_grad_(), logits([0.6, 0.4]).requires_grad_()
    loss = FreeMatch.loss(strong, *freematch.targets(weak))
    loss.backward()  # type: ignore[no-untyped-call]
    assert weak.grad is None
    assert strong.grad is not None
    assert not freematch.threshold.requires_grad
    assert not freematch.shares.requires_grad


def test_a_restored_state_goes_on_in_the_same_way() -> None:
    draws = torch.Generator().manual_seed(0)
    one, other = FreeMatch(3), FreeMatch(3)
    one.targets(5 * torch.randn(8, 3, generator=draws))
    other.load_state_dict(one.state_dict())
    weak = torch.randn(8, 3, generator=draws)
    for mine, its in zip(one.targets(weak), other.targets(weak), strict=True):
        assert torch.equal(mine, its)
    assert torch.equal(one.threshold, other.threshold)
    assert torch.equal(one.shares, other.shares)
    assert not torch.equal(one.shares, FreeMatch(3).shares)


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
