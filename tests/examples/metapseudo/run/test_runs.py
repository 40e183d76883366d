"""Runs: what they share, and that what is done is not done again."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from examples.metapseudo.config import RunConfig
from examples.metapseudo.run import runs
from examples.metapseudo.train import Training

Small = Callable[..., RunConfig]

pytestmark = pytest.mark.usefixtures("few_images")


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
