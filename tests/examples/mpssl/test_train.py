"""Training: what a step does, and that an interrupted run goes on as if nothing had happened."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import gradbalance as gb
from examples.common.checkpoint import load_checkpoint
from examples.common.data.image_set import ImageSet
from examples.common.run_folder import RunFolder
from examples.common.trunk import NetworkInNetwork, SmallTrunk, build_model
from examples.mpssl import pretext
from examples.mpssl.presets import RunConfig, preset_config
from examples.mpssl.train import Training, train

SMALL = {"epochs": 3, "batch_size": 32, "max_train": 96}


def test_the_trunk_is_small_and_tapped_after_every_block() -> None:
    trunk = SmallTrunk()
    assert sum(parameter.numel() for parameter in trunk.parameters()) <= 100_000
    images = torch.randn(2, 3, 32, 32)
    shapes = [tuple(tap.shape) for tap in trunk.taps(images)]
    assert shapes == [(2, 32, 16, 16), (2, 48, 8, 8), (2, 64, 4, 4), (2, 96, 4, 4)]
    trunk.eval()
    assert torch.equal(trunk(images), trunk.taps(images)[-1])


def test_the_trunk_of_rotnet_is_a_choice(train_set: ImageSet) -> None:
    config = preset_config("mp-ssl", trunk="nin", batch_size=4, max_train=8)
    training = Training(config, train_set)
    assert isinstance(training.model.trunk, NetworkInNetwork)
    shapes = [tuple(tap.shape) for tap in training.model.trunk.taps(torch.randn(2, 3, 32, 32))]
    assert shapes == [(2, 96, 16, 16), *[(2, 192, 8, 8)] * 3]
    assert set(training.step(torch.arange(4)).names) == set(config.tasks)
    with pytest.raises(ValueError, match=r"trunk must be one of \['small', 'nin'\], got 'alexnet'"):
        preset_config("mp-ssl", trunk="alexnet")


def test_every_run_of_a_seed_starts_from_the_same_trunk() -> None:
    state = torch.get_rng_state()
    one = build_model({"rotation": 4}, seed=1)
    two = build_model({"sharpness": 4, "rotation": 4}, seed=1)
    other = build_model({"rotation": 4}, seed=2)
    assert torch.equal(torch.get_rng_state(), state), "the global generator is left alone"
    for name, weight in one.trunk.state_dict().items():
        assert torch.equal(weight, two.trunk.state_dict()[name])
    assert not torch.equal(one.trunk.blocks[0][0].weight, other.trunk.blocks[0][0].weight)


def test_a_uniform_step_is_the_sum_of_the_cross_entropies(train_set: ImageSet) -> None:
    config = preset_config("ie-rot", **SMALL)
    ours, by_hand = Training(config, train_set), Training(config, train_set)
    ours.step(torch.arange(32))

    from examples.common import transforms

    images = transforms.to_float(train_set.images[:32])
    inputs = transforms.crop_and_flip(images, by_hand.generator)
    classes = pretext.draw_classes(by_hand.tasks, 32, by_hand.generator)
    inputs = (pretext.mix(inputs, by_hand.tasks, classes) - 0.5) / 0.25
    logits = by_hand.model(inputs)
    by_hand.optimizer.zero_grad()
    losses = [torch.nn.functional.cross_entropy(logits[name], classes[name]) for name in classes]
    torch.stack(losses).sum().backward()
    by_hand.optimizer.step()
    for one, other in zip(ours.model.parameters(), by_hand.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_step_goes_through_the_balancer(
    train_set: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(preset_config("mp-ssl", **SMALL), train_set)
    report = training.step(torch.arange(32))
    assert report.names == tuple(training.model.heads)
    assert report.solver == "Bounded(MGDA)"
    assert report.cosines is not None
    assert report.gram is not None
    length = report.weights @ report.gram @ report.weights
    assert length == pytest.approx(report.gram.sum()), (
        "scaled to be comparable with uniform weights"
    )
    monkeypatch.setattr(training.balancer, "backward", lambda losses: gb.Report)
    before = [parameter.clone() for parameter in training.model.parameters()]
    training.step(torch.arange(32))
    assert all(map(torch.equal, before, training.model.parameters())), "nothing else gives .grad"


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("bfloat16", torch.bfloat16), ("float32", torch.float32), ("auto", torch.float32)],
)
def test_mixed_precision_runs_the_trunk_in_bfloat16(
    train_set: ImageSet, precision: str, expected: torch.dtype
) -> None:
    training = Training(preset_config("mp-ssl", precision=precision, **SMALL), train_set)
    seen = []
    convolution = training.model.trunk.blocks[1]
    convolution.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    report = training.step(torch.arange(32))
    assert seen == [expected]
    assert {parameter.dtype for parameter in training.model.parameters()} == {torch.float32}
    assert (report.losses > 0).all()


def test_the_learning_rate_falls_as_a_cosine(tmp_path: Path, train_set: ImageSet) -> None:
    folder = RunFolder(tmp_path)
    train(preset_config("rotation", **{**SMALL, "epochs": 4}), train_set, folder)
    rates = [record["lr"] for record in folder.metrics() if record["kind"] == "epoch"]
    assert rates == pytest.approx([0.05 * f for f in (0.853553, 0.5, 0.146447, 0.0)], abs=1e-6)


def test_metrics_hold_every_step_and_epoch(tmp_path: Path, train_set: ImageSet) -> None:
    folder = RunFolder(tmp_path)
    train(preset_config("mp-ssl", **SMALL), train_set, folder)
    records = list(folder.metrics())
    kinds = "".join(record["kind"][0] for record in records)
    assert kinds == "sssesssessse"
    steps = [record for record in records if record["kind"] == "step"]
    assert [record["step"] for record in steps] == list(range(1, 10))
    assert {"loss/rotation", "weight/rotation", "cosine/rotation/saturation"} <= set(steps[0])
    mean = sum(record["loss/rotation"] for record in steps[3:6]) / 3
    assert records[7]["mean_loss/rotation"] == pytest.approx(mean)


def test_training_learns_a_pretext_task(tmp_path: Path, train_set: ImageSet) -> None:
    options = {**SMALL, "epochs": 8}
    folder = RunFolder(tmp_path)
    train(preset_config("mp-ssl", tasks=("saturation",), **options), train_set, folder)
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
            train(config, train_set, folder)
    assert sum(record["kind"] == "step" for record in folder.metrics()) == 5
    torch.manual_seed(12345)  # The global generator plays no part.
    return train(config, train_set, folder, resume=True)


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
    expected = train(config, train_set, whole)
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
    first = train(config, train_set, folder)
    metrics = folder.metrics_file.read_bytes()
    again = train(config, train_set, folder, resume=True)
    assert all(map(torch.equal, first.parameters(), again.parameters()))
    assert folder.metrics_file.read_bytes() == metrics


def test_resuming_with_other_options_is_refused(tmp_path: Path, train_set: ImageSet) -> None:
    folder = RunFolder(tmp_path)
    train(preset_config("rotation", **SMALL), train_set, folder)
    with pytest.raises(ValueError, match=r"its lr was 0\.05, got 0\.1"):
        train(preset_config("rotation", lr=0.1, **SMALL), train_set, folder, resume=True)


def test_without_resume_a_run_starts_afresh(tmp_path: Path, train_set: ImageSet) -> None:
    folder = RunFolder(tmp_path)
    train(preset_config("rotation", **SMALL), train_set, folder)
    metrics = folder.metrics_file.read_bytes()
    train(preset_config("rotation", **SMALL), train_set, folder)
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
