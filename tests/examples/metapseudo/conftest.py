from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from examples.metapseudo import find
from examples.metapseudo.classifier import Classifier, build_classifier
from examples.metapseudo.config import RunConfig
from examples.metapseudo.data import load
from examples.metapseudo.data.load import Labelled, Target, load_target
from examples.metapseudo.find import FoundMap
from examples.metapseudo.generators.autoencoder import AutoencoderGenerator
from examples.metapseudo.generators.generator import frozen
from examples.metapseudo.generators.source import KINDS, Source, load_source, train_source
from examples.metapseudo.run import shared
from examples.metapseudo.variants import variant_config


@pytest.fixture(scope="session")
def target() -> Target:
    """The built-in target with four labels a class, and fewer images beside them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "BUILT_IN_UNLABELLED", 250)
        patch.setattr(load, "BUILT_IN_TEST", 48)
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


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fewer built-in images, and none of what runs share is left afterwards."""
    monkeypatch.setattr(load, "BUILT_IN_UNLABELLED", 30)
    monkeypatch.setattr(load, "BUILT_IN_TEST", 30)
    yield
    for cached in (shared.target, shared.source, shared.labelled_classifier, shared.found_map):
        cached.cache_clear()


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs whose labelled classifier was trained, or map found, as it comes about."""
    found = []
    whole, whole_find = find.labelled_classifier, find.find_map

    def counted(config: RunConfig, *arguments: Any) -> Classifier:
        found.append(config.name)
        return whole(config, *arguments)

    def counted_find(config: RunConfig, *arguments: Any) -> FoundMap:
        found.append(config.name)
        return whole_find(config, *arguments)

    monkeypatch.setattr(find, "labelled_classifier", counted)
    monkeypatch.setattr(find, "find_map", counted_find)
    return found
