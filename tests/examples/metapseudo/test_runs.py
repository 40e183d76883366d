"""Runs: what they share, and that what is done is not done again."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from examples.metapseudo import data, runs
from examples.metapseudo.classifier import Classifier
from examples.metapseudo.find import FoundMap
from examples.metapseudo.train import Training
from examples.metapseudo.variants import RunConfig

Small = Callable[..., RunConfig]


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(data, "BUILT_IN_UNLABELLED", 30)
    monkeypatch.setattr(data, "BUILT_IN_TEST", 30)
    yield
    for cached in (runs._target, runs._source, runs._labelled, runs._found):
        cached.cache_clear()


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs whose labelled classifier was trained, or map found, as it comes about."""
    found = []
    whole, whole_find = runs.labelled_classifier, runs.find_map

    def counted(config: RunConfig, *arguments: Any) -> Classifier:
        found.append(config.name)
        return whole(config, *arguments)

    def counted_find(config: RunConfig, *arguments: Any) -> FoundMap:
        found.append(config.name)
        return whole_find(config, *arguments)

    monkeypatch.setattr(runs, "labelled_classifier", counted)
    monkeypatch.setattr(runs, "find_map", counted_find)
    return found


def test_a_run_that_is_done_is_not_done_again(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("labels", num_steps=1)
    first = runs.run(config, tmp_path)
    assert json.loads((tmp_path / "labels-4-0" / "results.json").read_text()) == first
    with monkeypatch.context() as patch:
        patch.setattr(runs, "train", None)  # who calls it fails
        assert runs.run(config, tmp_path) == first
    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", None)
        with pytest.raises(ValueError, match=r"its lr was 0\.02, got 0\.1"):
            runs.run(small("labels", num_steps=1, lr=0.1), tmp_path)
        with pytest.raises(TypeError):
            runs.run(config, tmp_path, resume=False)


def test_runs_of_one_seed_share_the_labelled_classifier_and_their_map(
    small: Small, tmp_path: Path, trained: list[str]
) -> None:
    options = {"num_steps": 1, "map_steps": 1}
    one, other = (
        runs.run(small(variant, **options), tmp_path)
        for variant in ("consistency-gap", "freematch-gap")
    )
    assert trained == ["labels-4-0", "map-4-0"]
    assert [record["step"] for record in one["latents"]] == [0, 1]
    assert other["latents"] == one["latents"]
    assert "target_like" in one["evaluations"][-1]
    logged = (tmp_path / "freematch-gap-4-0" / "metrics.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in logged]
    assert kinds == ["latents", "latents step", "latents", "evaluation", "step", "evaluation"]


def test_a_map_that_was_found_alone_is_not_found_again(
    small: Small, tmp_path: Path, trained: list[str]
) -> None:
    config = small("consistency-gap", num_steps=1, map_steps=1)
    first = runs.find_only(config, tmp_path)
    assert first["evaluations"] == []
    assert len(first["latents"]) == 2
    runs._labelled.cache_clear()
    runs._found.cache_clear()
    assert runs.find_only(config, tmp_path) == first
    assert trained == ["labels-4-0", "map-4-0"]
    runs.find_only(small("consistency-gap", num_steps=1, map_steps=2), tmp_path)
    assert len(trained) == 4, "another number of steps is another run"


@pytest.mark.parametrize("variant", ["consistency-gap", "paper"])
def test_optimised_samples_are_drawn_on_their_way(
    small: Small, tmp_path: Path, variant: str
) -> None:
    runs.run(small(variant, num_steps=1, map_steps=1), tmp_path)
    with Image.open(tmp_path / f"{variant}-4-0" / "walk.png") as image:
        assert image.width > 1000
        assert image.height > 150


def test_only_runs_that_share_a_map_are_done_in_turn(small: Small) -> None:
    names = ("labels", "consistency-gap", "paper", "freematch-gap")
    configs = [small(name, seed=seed) for seed in (0, 1) for name in names]
    found = [[config.name for config in group] for group in runs.groups(configs)]
    assert found == [
        group
        for seed in (0, 1)
        for group in (
            [f"labels-4-{seed}"],
            [f"consistency-gap-4-{seed}", f"freematch-gap-4-{seed}"],
            [f"paper-4-{seed}"],
        )
    ]
