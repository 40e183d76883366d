from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from examples.metapseudo import data
from examples.metapseudo.classifier import build_classifier
from examples.metapseudo.data import Labelled, Target, load_target
from examples.metapseudo.generators.autoencoder import AutoencoderGenerator
from examples.metapseudo.generators.generator import frozen
from examples.metapseudo.source import KINDS, Source, load_source, train_source
from examples.metapseudo.variants import RunConfig, variant_config


@pytest.fixture(scope="session")
def target() -> Target:
    """The built-in target with four labels a class, and fewer images beside them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "BUILT_IN_UNLABELLED", 250)
        patch.setattr(data, "BUILT_IN_TEST", 48)
        return load_target(None, labels_per_class=4, seed=0)


@pytest.fixture(scope="session")
def blind(target: Target) -> Target:
    """The target without its unlabelled images: who looks at them fails."""
    return replace(target, unlabelled=None)  # type: ignore[arg-type]


@pytest.fixture
def source() -> Source:
    return load_source("renderer")


@pytest.fixture
def conditional() -> Source:
    """A small generator and a classifier of three classes, with their initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = AutoencoderGenerator(("a", "b", "c"), latent_size=8, width=32)
        generator.means.normal_().mul_(5)  # Contrast in the images, and classes that differ.
        generator.factors.mul_(5)
    frozen(generator)
    return Source(generator=generator, classifier=build_classifier(3, seed=1).requires_grad_(False))


@pytest.fixture(scope="session")
def source_images() -> Labelled:
    draws = torch.Generator().manual_seed(0)
    return Labelled(
        images=torch.randint(256, (24, 3, 32, 32), generator=draws, dtype=torch.uint8),
        labels=torch.arange(24) % 3,
        classes=("a", "b", "c"),
    )


@pytest.fixture(scope="session", params=KINDS)
def source_file(
    request: pytest.FixtureRequest,
    source_images: Labelled,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("source") / "made" / "source.pt"
    train_source(source_images, path, kind=request.param, generator_steps=2, classifier_steps=2)
    return path


@pytest.fixture(scope="session")
def folder_of_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes, each with six images for training and three for tests; red tells them."""
    path = tmp_path_factory.mktemp("data")
    for split, num, green in (("train", 6, 0), ("test", 3, 200)):
        for index, name in enumerate(("ant", "bee", "cat", "dog")):
            (path / split / name).mkdir(parents=True)
            for number in range(num):
                image = Image.new("RGB", (8, 8), (60 * index, green, 40 * number))
                image.save(path / split / name / f"{number}.png")
    return path


@pytest.fixture(scope="session")
def small() -> Callable[..., RunConfig]:
    """Make the configuration of a variant with small batches."""

    def make(variant: str, **options: object) -> RunConfig:
        return variant_config(
            variant,
            **{"num_steps": 4, "batch_size": 8, "num_samples": 8, "map_samples": 8, **options},
        )

    return make
