"""Labelled images: as they are split, and as they are drawn."""

from collections.abc import Callable

import pytest
import torch

from examples.metapseudo.batch import draw_batch, split
from examples.metapseudo.config import RunConfig
from examples.metapseudo.data.load import Labelled, Target
from examples.metapseudo.variants import variant_config


def labels_of(images: Labelled) -> dict[bytes, int]:
    pixels = [image.numpy().tobytes() for image in images.images]
    return dict(zip(pixels, images.labels.tolist(), strict=True))


def test_without_validation_images_both_are_the_same(target: Target) -> None:
    train_set, validation_set = split(target.labelled, 0)
    assert train_set is validation_set is target.labelled


@pytest.mark.parametrize("num_validation", [1, 3])
def test_validation_images_are_as_many_of_every_class_and_no_training_images(
    target: Target, num_validation: int
) -> None:
    train_set, validation_set = split(target.labelled, num_validation)
    assert train_set.labels.bincount().tolist() == [4 - num_validation] * 6
    assert validation_set.labels.bincount().tolist() == [num_validation] * 6
    found = labels_of(train_set) | labels_of(validation_set)
    assert found == labels_of(target.labelled), "every image, with its label"
    assert len(found) == len(train_set) + len(validation_set) == 24, "and only once"


@pytest.mark.parametrize(
    ("labels_per_class", "share", "expected"),
    [(1, 0.25, 0), (3, 0.25, 0), (4, 0.25, 1), (16, 0.25, 4), (16, 0.5, 8), (16, 0.0, 0)],
)
def test_a_share_of_enough_labels_is_kept_for_validation(
    small: Callable[..., RunConfig], labels_per_class: int, share: float, expected: int
) -> None:
    options = {"labels_per_class": labels_per_class, "validation_share": share}
    for variant in ("both", "validation", "paper"):
        assert small(variant, **options).num_validation == expected
    for variant in ("labels", "freematch-random", "consistency-gap", "freematch-real"):
        assert small(variant, **options).num_validation == 0, "no validation loss, no images"


def test_batches_are_drawn_with_their_labels_and_augmented() -> None:
    levels = torch.tensor([0, 51, 102, 153], dtype=torch.uint8)
    flat = Labelled(
        images=levels[:, None, None, None].expand(4, 3, 32, 32),
        labels=torch.tensor([0, 0, 1, 1]),
        classes=("dark", "bright"),
    )
    batch = draw_batch(flat, 100, torch.Generator().manual_seed(0))
    assert batch.images.shape == (100, 3, 32, 32)
    shown = batch.images.amax(dim=(1, 2, 3))
    torch.testing.assert_close(shown, batch.images.amin(dim=(1, 2, 3)))
    assert batch.labels.tolist() == (shown > 0.3).long().tolist()
    assert len(shown.unique()) == 4, "with replacement, all of them"
    again = draw_batch(flat, 100, torch.Generator().manual_seed(0))
    assert torch.equal(again.images, batch.images)


def test_a_batch_shows_an_image_in_several_ways(target: Target) -> None:
    one = target.labelled.take(torch.tensor([0]))
    batch = draw_batch(one, 20, torch.Generator().manual_seed(0))
    assert len({image.numpy().tobytes() for image in batch.images}) > 10


@pytest.mark.parametrize(("share", "labels", "kept"), [(0.9, 4, 3), (0.1, 4, 1), (0.0, 16, 0)])
def test_neither_part_of_the_labelled_images_is_empty_by_rounding(
    share: float, labels: int, kept: int
) -> None:
    config = variant_config("both", validation_share=share, labels_per_class=labels)
    assert config.num_validation == kept
