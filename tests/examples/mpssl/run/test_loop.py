"""A run to its end: its log, and that an interrupted one goes on as if nothing had happened."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gradbalance as gb
from examples.common.checkpoint import load_checkpoint
from examples.common.data.image_set import ImageSet
from examples.common.run_folder import RunFolder
from examples.mpssl.presets import RunConfig, preset_config
from examples.mpssl.run.loop import train
from examples.mpssl.train import Training

SMALL = {"epochs": 3, "batch_size": 32, "max_train": 96}


def test_the_learning_rate_falls_as_a_cosine(tmp_path: Path, train_set: ImageSet) -> None:
    folder = RunFolder(tmp_path)
    train(Training(preset_config("rotation", **{**SMALL, "epochs": 4}), train_set), folder)
    rates = [record["lr"] for record in folder.metrics() if record["kind"] == "epoch"]
    assert rates == pytest.approx([0.05 * f for f in (0.853553, 0.5, 0.146447, 0.0)], abs=1e-6)


def test_metrics_hold_every_step_and_epoch(tmp_path: Path, train_set: ImageSet) -> None:
    folder = RunFolder(tmp_path)
    train(Training(preset_config("mp-ssl", **SMALL), train_set), folder)
    records = list(folder.metrics())
    kinds = "".join(record["kind"][0] for record in records)
    assert kinds == "sssesssessse"
    steps = [record for record in records if record["kind"] == "step"]
    assert [record["step"] for record in steps] == list(range(1, 10))
    assert {"loss/rotation", "weight/rotation", "cosine/rotation/saturation"} <= set(steps[0])
    mean = sum(record["loss/rotation"] for record in steps[3:6]) / 3
    assert records[7]["mean_loss/rotation"] == pytest.approx(mean)


def test_a_solver_that_looks_at_epochs_is_told_of_them(tmp_path: Path, train_set: ImageSet) -> None:
    folder = RunFolder(tmp_path)
    config = preset_config("mp-ssl", solver="DWA", source="losses", scale="sum", **SMALL)
    train(Training(config, train_set), folder)
    weights = folder.history().weights[:, 0]
    assert [len(set(epoch.tolist())) for epoch in np.split(weights, 3)] == [1, 1, 1]
    assert len(set(weights.tolist())) > 1


def test_training_learns_a_pretext_task(tmp_path: Path, train_set: ImageSet) -> None:
    options = {**SMALL, "epochs": 8}
    folder = RunFolder(tmp_path)
    train(Training(preset_config("mp-ssl", tasks=("saturation",), **options), train_set), folder)
    losses = folder.history().losses[:, 0]
    assert losses[-5:].mean() < 0.7 * losses[:3].mean()


class InterruptionError(Exception):
    """What ends a run in the middle of an epoch."""


def run_interrupted(
    config: RunConfig, train_set: ImageSet, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Train until the second step of the second epoch, then resume to the end."""
    whole_step, num_steps = Training.step, 0

    def step(self: Training, chosen: torch.Tensor) -> gb.Report:
        nonlocal num_steps
        num_steps += 1
        if num_steps == 6:
            raise InterruptionError
        return whole_step(self, chosen)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", step)
        with pytest.raises(InterruptionError):
            train(Training(config, train_set), folder)
    assert sum(record["kind"] == "step" for record in folder.metrics()) == 5
    torch.manual_seed(12345)  # The global generator plays no part.
    return train(Training(config, train_set), folder, resume=True)


@pytest.mark.parametrize(
    ("solver", "source"),
    [
        ("MGDA(method='frank_wolfe', normalization='loss+')", "representation"),
        ("GradNorm", "shared-last"),
        ("PCGrad", "shared"),
        ("Uniform", "losses"),
    ],
)
def test_a_resumed_run_equals_the_unbroken_one(
    tmp_path: Path,
    train_set: ImageSet,
    monkeypatch: pytest.MonkeyPatch,
    solver: str,
    source: str,
) -> None:
    config = preset_config("mp-ssl", solver=solver, source=source, scale="sum", **SMALL)
    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    expected = train(Training(config, train_set), whole)
    resumed = run_interrupted(config, train_set, broken, monkeypatch)
    for name, value in expected.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert broken.metrics_file.read_bytes() == whole.metrics_file.read_bytes()
    one, other = (load_checkpoint(f.path / "checkpoint.pt") for f in (whole, broken))
    assert torch.equal(one["generator"], other["generator"])
    torch.testing.assert_close(one["balancer"], other["balancer"], rtol=0, atol=0)
    torch.testing.assert_close(one["optimizer"], other["optimizer"], rtol=0, atol=0)


def test_a_finished_run_resumes_to_itself(tmp_path: Path, train_set: ImageSet) -> None:
    config, folder = preset_config("rotation", **SMALL), RunFolder(tmp_path)
    first = train(Training(config, train_set), folder)
    metrics = folder.metrics_file.read_bytes()
    again = train(Training(config, train_set), folder, resume=True)
    assert all(map(torch.equal, first.parameters(), again.parameters()))
    assert folder.metrics_file.read_bytes() == metrics


def test_resuming_with_other_options_is_refused(tmp_path: Path, train_set: ImageSet) -> None:
    folder = RunFolder(tmp_path)
    train(Training(preset_config("rotation", **SMALL), train_set), folder)
    with pytest.raises(ValueError, match=r"its lr was 0\.05, got 0\.1"):
        train(Training(preset_config("rotation", lr=0.1, **SMALL), train_set), folder, resume=True)


def test_without_resume_a_run_starts_afresh(tmp_path: Path, train_set: ImageSet) -> None:
    folder = RunFolder(tmp_path)
    train(Training(preset_config("rotation", **SMALL), train_set), folder)
    metrics = folder.metrics_file.read_bytes()
    train(Training(preset_config("rotation", **SMALL), train_set), folder)
    assert folder.metrics_file.read_bytes() == metrics
    assert json.loads((tmp_path / "config.json").read_text())["batch_size"] == 32


def test_the_history_read_back_is_that_of_the_reports(tmp_path: Path, train_set: ImageSet) -> None:
    training, folder = Training(preset_config("mp-ssl", **SMALL), train_set), RunFolder(tmp_path)
    reports = [training.step(torch.arange(32)) for _ in range(2)]
    for report in reports:
        folder.log({"kind": "step", **report.as_dict()})
    folder.log({"kind": "epoch", "epoch": 1})
    for report, read in zip(reports, folder.history(), strict=True):
        assert read.names == report.names
        assert (read.losses == report.losses).all()
        assert (read.weights == report.weights).all()
        assert read.gram == pytest.approx(report.gram)
        assert read.conflicts == report.conflicts
