"""Source and target: what tells their images, and which of them are labelled."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from examples.metapseudo.data import load
from examples.metapseudo.data.load import Target, load_source_images, load_target
from examples.metapseudo.generators.renderer import SHAPES, Renderer, named


def as_bytes(images: Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


def test_the_source_is_all_that_the_renderer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "BUILT_IN_SOURCE", 60)
    source = load_source_images(None)
    assert source.classes == SHAPES
    draws = torch.Generator().manual_seed(load._SOURCE_SEED)
    latents = torch.randn(60, 34, generator=draws)
    expected = (255 * Renderer()(latents)).round().to(torch.uint8)
    assert (expected.int() - source.images.int()).abs().max() <= 1
    assert source.labels.tolist() == named(latents)["shape"].argmax(dim=1).tolist()


def test_as_many_images_of_every_class_are_labelled_and_all_others_are_not(
    target: Target,
) -> None:
    num_classes = len(target.labelled.classes)
    expected = [label for label in range(num_classes) for _ in range(4)]
    assert target.labelled.labels.tolist() == expected
    labelled, unlabelled = (
        set(as_bytes(images)) for images in (target.labelled.images, target.unlabelled)
    )
    assert len(labelled) == len(target.labelled) == 4 * num_classes
    assert len(unlabelled) == len(target.unlabelled) == 250
    assert not labelled & unlabelled
    assert not (labelled | unlabelled) & set(as_bytes(target.test.images))


def test_the_seed_decides_the_target(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "BUILT_IN_UNLABELLED", 250)
    monkeypatch.setattr(load, "BUILT_IN_TEST", 48)
    torch.manual_seed(12345)  # The global generator plays no part.
    same, other = (load_target(None, labels_per_class=4, seed=seed) for seed in (0, 1))
    assert torch.equal(same.labelled.images, target.labelled.images)
    assert torch.equal(same.unlabelled, target.unlabelled)
    known = set(as_bytes(target.unlabelled)) | set(as_bytes(target.test.images))
    for its in (other.labelled.images, other.unlabelled, other.test.images):
        assert not set(as_bytes(its)) & known


def test_some_images_must_be_labelled() -> None:
    with pytest.raises(ValueError, match="labels_per_class must be at least 1, got 0"):
        load_target(None, labels_per_class=0, seed=0)


@pytest.mark.parametrize("labels_per_class", [0, 6])
def test_more_labels_than_images_are_refused(folder_of_images: Path, labels_per_class: int) -> None:
    with pytest.raises(ValueError, match=f"less than 6, .*, got {labels_per_class}"):
        load_target(str(folder_of_images), labels_per_class=labels_per_class, seed=0)


def test_half_of_the_classes_of_a_folder_are_the_source_and_half_the_target(
    folder_of_images: Path,
) -> None:
    source = load_source_images(str(folder_of_images))
    assert source.classes == ("ant", "bee")
    assert source.labels.bincount().tolist() == [6, 6]
    assert (source.images[:, 0, 0, 0] == 60 * source.labels).all()
    assert (source.images[:, 1] == 0).all(), "training images"

    target = load_target(str(folder_of_images), labels_per_class=4, seed=0)
    assert target.labelled.classes == target.test.classes == ("cat", "dog")
    assert target.labelled.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    for images in (target.labelled, target.test):
        assert (images.images[:, 0, 0, 0] == 120 + 60 * images.labels).all()
    assert (target.test.images[:, 1] == 200).all()
    assert target.test.labels.bincount().tolist() == [3, 3]
    assert sorted(target.unlabelled[:, 0, 0, 0].tolist()) == [120, 120, 180, 180]
    everything = as_bytes(target.labelled.images) + as_bytes(target.unlabelled)
    assert len(set(everything)) == 12


def test_the_seed_chooses_the_labelled_images_of_a_folder(folder_of_images: Path) -> None:
    chosen = {
        tuple(
            as_bytes(
                load_target(str(folder_of_images), labels_per_class=1, seed=seed).labelled.images
            )
        )
        for seed in range(3)
    }
    assert len(chosen) > 1


def test_of_an_odd_number_of_classes_the_target_has_more(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("ant", "bee", "cat", "dog", "elk"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (8, 8)).save(tmp_path / split / name / f"{number}.png")
    assert load_source_images(str(tmp_path)).classes == ("ant", "bee")
    target = load_target(str(tmp_path), labels_per_class=1, seed=0)
    assert target.labelled.classes == ("cat", "dog", "elk")


def test_three_classes_are_not_enough(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("ant", "bee", "cat"):
            path = tmp_path / split / name
            path.mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(path / "0.png")
    with pytest.raises(ValueError, match=r"two classes each, found \['ant', 'bee', 'cat'\]"):
        load_source_images(str(tmp_path))
    with pytest.raises(ValueError, match=r"two classes each, found \['ant', 'bee', 'cat'\]"):
        load_target(str(tmp_path), labels_per_class=1, seed=0)


def test_the_test_images_of_files_are_not_class_by_class(folder_of_images: Path) -> None:
    labels = load_target(str(folder_of_images), labels_per_class=1, seed=0).test.labels
    assert labels.tolist() != sorted(labels.tolist())
    other = load_target(str(folder_of_images), labels_per_class=1, seed=1).test.labels
    assert torch.equal(labels, other), "the same for all seeds"
