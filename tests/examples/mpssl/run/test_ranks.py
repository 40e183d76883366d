"""Several processes train one run: the same as one does, with one log and one checkpoint."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from examples.common.data.procedural import make_images
from examples.common.run_folder import RunFolder
from examples.common.trunk import TRUNKS, SmallTrunk
from examples.mpssl.inputs import Batch
from examples.mpssl.presets import preset_config
from examples.mpssl.run import ranks
from examples.mpssl.run.loop import train
from examples.mpssl.train import Training
from tests.distributed.processes import run

OPTIONS: dict[str, Any] = {"batch_size": 16, "epochs": 4}  # 20 steps of 80 images


def of_samples(width: int) -> nn.Module:
    """In place of batch norm, whose means over a rank's share are not those over the batch."""
    return nn.GroupNorm(8, width)


def trained(folder: str, interrupted: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TRUNKS, "small", partial(SmallTrunk, norm=of_samples))
        config = preset_config("mp-ssl", **OPTIONS)
        images = make_images(80, seed=0)
        if interrupted:
            whole_step, steps = Training.step, []

            def step(self: Training, chosen: torch.Tensor) -> Any:
                steps.append(1)
                if len(steps) == 8:
                    raise KeyboardInterrupt
                return whole_step(self, chosen)

            patch.setattr(Training, "step", step)
            with pytest.raises(KeyboardInterrupt):
                train(Training(config, images), RunFolder(Path(folder)))
            patch.setattr(Training, "step", whole_step)
        model = train(Training(config, images), RunFolder(Path(folder)), resume=interrupted)
    return {name: value.numpy() for name, value in model.state_dict().items()}


def trained_twice(folder: str) -> list[dict[str, Any]]:
    return [trained(f"{folder}/whole", False), trained(f"{folder}/broken", True)]


def test_two_ranks_train_as_one_process_does(tmp_path: Path) -> None:
    expected = trained(str(tmp_path / "one"), False)
    results = run(2, trained_twice, str(tmp_path))
    for whole, broken in results:
        for name, value in expected.items():
            assert whole[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
            assert (whole[name] == broken[name]).all(), name
    one, whole, broken = (
        list(RunFolder(tmp_path / name).metrics()) for name in ("one", "whole", "broken")
    )
    assert [record["kind"] for record in whole] == [record["kind"] for record in one]
    assert whole == broken
    for ours, theirs in zip(whole, one, strict=True):
        for key in ("loss/rotation", "weight/rotation", "mean_loss/sharpness"):
            assert ours.get(key, 0) == pytest.approx(theirs.get(key, 0), rel=1e-3), key


def test_a_share_must_be_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "num_ranks", lambda: 2)
    classes = {"a": torch.arange(3)}
    with pytest.raises(ValueError, match="divisible among the 2 processes; found 3 inputs"):
        ranks.share(Batch(inputs=torch.zeros(3), classes=classes))


@pytest.mark.long
def test_torchrun_starts_the_example(tmp_path: Path) -> None:
    options = "rotation --data upright --max-train 64 --max-test 64 --epochs 1 --threads 1 --out"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m"]
    command += ["examples.mpssl", *options.split(), str(tmp_path)]
    root = Path(__file__).parents[4]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/1") == 1
    assert (tmp_path / "comparison.md").exists()
    assert (tmp_path / "rotation" / "checkpoint.pt").exists()
