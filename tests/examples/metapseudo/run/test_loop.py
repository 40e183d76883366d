"""A run to its end: its evaluations, its log, and that an interrupted one goes on exactly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gradbalance as gb
from examples.common.run_folder import RunFolder
from examples.metapseudo.classifier import probabilities
from examples.metapseudo.config import RunConfig
from examples.metapseudo.data.load import Target
from examples.metapseudo.generators.source import Source
from examples.metapseudo.mapping import AffineMap
from examples.metapseudo.run.loop import train
from examples.metapseudo.train import Training

Small = Callable[..., RunConfig]


def test_the_run_is_judged_at_its_start_and_after_every_quarter(
    small: Small, tmp_path: Path, blind: Target, source: Source
) -> None:
    folder = RunFolder(tmp_path)
    training = train(small("freematch-random", num_steps=10), blind, source, folder)
    records = list(folder.metrics())
    judged = [record["step"] for record in records if record["kind"] == "evaluation"]
    assert judged == [0, 3, 5, 8, 10]
    steps = [record["step"] for record in records if record["kind"] == "step"]
    assert steps == list(range(1, 11))
    assert {"loss/labels", "weight/pseudo-labels"} <= set(records[1])
    assert records[-1] == {"kind": "evaluation", "step": 10, **training.judge()}
    right = probabilities(training.model, blind.test.images).argmax(dim=1) == blind.test.labels
    assert records[-1]["accuracy"] == int(right.sum()) / 48
    assert training.optimizer.param_groups[0]["lr"] == pytest.approx(0), "a whole cosine"


def test_the_latents_are_logged_beside_the_classifier(
    small: Small, tmp_path: Path, blind: Target, source: Source
) -> None:
    folder = RunFolder(tmp_path)
    train(small("paper", num_steps=1, meta_solver="MGDA"), blind, source, folder)
    record = next(record for record in folder.metrics() if record["kind"] == "step")
    assert {
        "loss/labels",
        "loss/consistency",
        "latents/loss/validation",
        "latents/weight/gap",
        "latents/cosine/validation/gap",
    } <= set(record)
    assert folder.history().names == ("labels", "consistency")


class InterruptionError(Exception):
    """What ends a run between two checkpoints."""


@pytest.mark.parametrize(
    ("variant", "options"),
    [
        ("paper", {"meta_solver": "MGDA"}),
        ("freematch-random", {}),
        ("consistency-gap", {}),
        ("paper", {"solver": "FAMO", "meta_solver": "FAMO", "meta_gradient": "finite-difference"}),
    ],
)
def test_a_resumed_run_equals_the_unbroken_one(
    small: Small,
    tmp_path: Path,
    blind: Target,
    source: Source,
    monkeypatch: pytest.MonkeyPatch,
    variant: str,
    options: dict[str, str],
) -> None:
    config = small(variant, num_steps=6, **options)
    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    given: dict[str, Any] = {"num_parts": 2}
    if variant == "consistency-gap":
        given |= {"mapping": AffineMap(34), "records": [{"kind": "latents", "step": 0}]}
    expected = train(config, blind, source, whole, **given)
    whole_step = Training.step

    def step(self: Training) -> tuple[gb.Report, gb.Report | None]:
        if self.step_done == 4:  # one step after a checkpoint
            raise InterruptionError
        return whole_step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", step)
        with pytest.raises(InterruptionError):
            train(config, blind, source, broken, **given)
    assert list(broken.metrics())[-1]["step"] == 4
    torch.manual_seed(12345)  # The global generator plays no part.
    begun = []

    def counted(self: Training) -> tuple[gb.Report, gb.Report | None]:
        begun.append(self.step_done)
        return whole_step(self)

    monkeypatch.setattr(Training, "step", counted)
    resumed = train(config, blind, source, broken, resume=True, **given)
    assert begun == [3, 4, 5], "from the checkpoint in the middle"
    assert broken.metrics_file.read_bytes() == whole.metrics_file.read_bytes()
    networks = [(expected.model, resumed.model)]
    if variant in ("paper", "consistency-gap"):
        networks.append((expected.stateful["mapping"], resumed.stateful["mapping"]))
    for one, other in networks:
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name


def test_resuming_with_other_options_is_refused(
    small: Small, tmp_path: Path, blind: Target, source: Source
) -> None:
    folder = RunFolder(tmp_path)
    train(small("labels", num_steps=1), blind, source, folder)
    with pytest.raises(ValueError, match=r"its lr was 0\.02, got 0\.1"):
        train(small("labels", num_steps=1, lr=0.1), blind, source, folder, resume=True)


@pytest.mark.parametrize("options", [{"solver": "DWA"}, {"meta_solver": "DWA"}])
def test_solvers_that_look_at_epochs_are_told_of_them(
    small: Small, tmp_path: Path, blind: Target, source: Source, options: dict[str, str]
) -> None:
    folder = RunFolder(tmp_path)
    train(small("paper", num_steps=8, **options), blind, source, folder)
    key = "weight/labels" if "solver" in options else "latents/weight/gap"
    weights = {record[key] for record in folder.metrics() if record["kind"] == "step"}
    assert len(weights) > 1
