"""Weak and strong augmentation: seeded, within [0, 1], and differentiable."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from examples.metapseudo import augment

Augment = Callable[[Tensor, torch.Generator], Tensor]

both = pytest.mark.parametrize("change", [augment.weak, augment.strong])


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(16, 3, 32, 32, generator=draws(7))


@both
def test_images_stay_images(change: Augment, images: Tensor) -> None:
    changed = change(images, draws())
    assert changed.shape == images.shape
    assert changed.dtype == torch.float32
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert (changed - images).abs().amax(dim=(1, 2, 3)).gt(0.1).sum() >= 12


@both
def test_gradients_reach_every_image(change: Augment, images: Tensor) -> None:
    images.requires_grad_()
    change(images, draws()).square().sum().backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    assert images.grad.isfinite().all()
    assert (images.grad != 0).double().mean(dim=(1, 2, 3)).min() > 0.2


@both
def test_the_draws_decide(change: Augment, images: Tensor) -> None:
    torch.manual_seed(0)
    first = change(images, draws(1))
    torch.manual_seed(1)
    assert torch.equal(first, change(images, draws(1)))
    assert not torch.equal(first, change(images, draws(2)))


def test_weak_augmentation_shifts_by_up_to_two_pixels_and_flips_half_of_the_images() -> None:
    marked = torch.zeros(200, 3, 32, 32)
    marked[:, :, 16, 10] = 1
    places = augment.weak(marked, draws())[:, 0].flatten(1).argmax(dim=1)
    assert set((places // 32).tolist()) == set(range(14, 19))
    assert set((places % 32).tolist()) == set(range(8, 13)) | set(range(19, 24))
    assert 70 < (places % 32 > 15).sum() < 130


def test_strong_augmentation_cuts_a_square_out_and_changes_the_tones(images: Tensor) -> None:
    changed = augment.strong(images, draws())
    grey = (changed == 0.5).all(dim=1)
    assert grey.sum(dim=(1, 2)).tolist() == [100] * 16
    assert (functional.avg_pool2d(grey.float(), 10, stride=1).amax(dim=(1, 2)) == 1).all()
    for side in (1, 2):
        starts = grey.any(dim=3 - side).long().argmax(dim=1)
        assert len(starts.unique()) > 6, "anywhere"
    assert changed.mean(dim=(1, 2, 3)).std() > 5 * images.mean(dim=(1, 2, 3)).std()


def test_strong_augmentation_is_not_the_weak_one(images: Tensor) -> None:
    difference = augment.strong(images, draws()) - augment.weak(images, draws())
    assert (difference.abs().mean(dim=(1, 2, 3)) > 0.05).all()
