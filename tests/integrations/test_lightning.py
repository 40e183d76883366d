"""Lightning: the balanced loss is what `training_step` returns."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.integrations.plain import (
    Net,
    assert_same,
    inputs,
    loop,
    losses_of,
    values_of,
    with_state,
)

L = pytest.importorskip("lightning", reason="pip install '.[integrations]'")
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:lightning"),
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
]


class Automatic(L.LightningModule):
    def __init__(self, net: Net, lr: float = 0.1) -> None:
        super().__init__()
        self.net, self.lr = net, lr

    def training_step(self, x: Tensor) -> Tensor:
        return self.net.balancer(self.losses(x))

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        x = x[self.global_rank :: self.trainer.world_size]  # each process takes its own share
        return losses_of(self.net(x), x)

    def on_after_backward(self) -> None:
        self.log_dict(self.net.balancer.report.as_dict("train/"))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Manual(Automatic):
    automatic_optimization = False

    def training_step(self, x: Tensor) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.net.balancer(self.losses(x)))
        optimizer.step()


class ManualShort(Manual):
    """As the README says, which is not enough here: Lightning never hears of the backward."""

    def training_step(self, x: Tensor) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.net.balancer.backward(self.losses(x))
        optimizer.step()


def trainer(folder: Path, **options: Any) -> Any:
    quiet = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(default_root_dir=folder, **{**quiet, **options})


def loader(batches: list[Tensor], **options: Any) -> Any:
    return torch.utils.data.DataLoader(batches, batch_size=None, **options)


@pytest.mark.parametrize("kind", [Automatic, Manual])
def test_it_takes_the_steps_of_a_plain_loop(kind: type, tmp_path: Path) -> None:
    net = Net(with_state)
    trainer(tmp_path).fit(kind(net), loader(inputs()))
    assert_same(values_of(net), loop(Net(with_state), inputs()))


def test_the_trainers_own_flags_apply(tmp_path: Path) -> None:
    net = Net()
    flags = {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5}
    trainer(tmp_path, **flags).fit(Automatic(net), loader(inputs()))
    assert_same(values_of(net), loop(Net(), inputs(), accumulate=2, clip=0.5))


def test_bfloat16(tmp_path: Path) -> None:
    net = Net()
    trainer(tmp_path, precision="bf16-mixed").fit(Automatic(net), loader(inputs()))
    expected = loop(Net(), inputs(), autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    assert_same(values_of(net), expected)
    assert net.balancer.report.gram is not None


class ByStep(Automatic):
    """The batch of each step, whatever a resumed loader begins with."""

    def training_step(self, x: Tensor) -> Tensor:
        return super().training_step(inputs()[self.global_step])


def test_a_run_that_was_interrupted_goes_on_bit_for_bit(tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint

    options = {
        "enable_checkpointing": True,
        "callbacks": [
            ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
        ],
    }
    trainer(tmp_path, **options).fit(ByStep(Net(with_state)), loader(inputs()))
    expected = loop(Net(with_state), inputs())
    for step in (1, 2, 3):
        net = Net(with_state)
        resumed = trainer(tmp_path, max_epochs=2, max_steps=4)
        resumed.fit(ByStep(net), loader(inputs()), ckpt_path=tmp_path / f"step={step}.ckpt")
        assert resumed.global_step == 4
        assert_same(values_of(net), expected)


def test_callbacks_and_loggers(tmp_path: Path) -> None:
    from lightning.pytorch import callbacks, loggers

    every = [
        callbacks.ModelCheckpoint(tmp_path, monitor="train/loss/sum", every_n_train_steps=1),
        callbacks.EarlyStopping("train/loss/sum", patience=100, check_on_train_epoch_end=True),
        callbacks.WeightAveraging(),
    ]
    written = [
        loggers.CSVLogger(tmp_path, name="csv", version=""),
        loggers.TensorBoardLogger(tmp_path, name="tb", version=""),
    ]
    net = Net(with_state)
    module = Automatic(net)
    options = {"callbacks": every, "logger": written, "enable_checkpointing": True}
    trainer(tmp_path, log_every_n_steps=1, **options).fit(module, loader(inputs()))
    means = torch.stack(list(_each_step(inputs()))).mean(0)
    torch.testing.assert_close(net.trunk[0].weight.detach(), means)  # what averaging leaves
    header, *lines = (tmp_path / "csv" / "metrics.csv").read_text().splitlines()
    names = net.balancer.report.as_dict("train/")
    assert set(names) <= set(header.split(","))
    assert len(lines) == 4
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    for name in names:
        assert len(events.Scalars(name)) == 4, name


def _each_step(batches: list[Tensor]) -> list[Tensor]:
    found = []
    for number in range(1, len(batches) + 1):
        net = Net(with_state)
        loop(net, batches[:number])
        found.append(net.trunk[0].weight.detach())
    return found


def on_two_processes(module: Any, folder: Path) -> None:
    two = trainer(folder, devices=2, strategy="ddp_spawn", use_distributed_sampler=False)
    two.fit(module, loader(inputs()))


@pytest.mark.parametrize("kind", [Automatic, Manual])
def test_two_processes_take_the_steps_of_one(kind: type, tmp_path: Path) -> None:
    net = Net(with_state)
    on_two_processes(kind(net), tmp_path)
    assert_same(values_of(net), loop(Net(with_state), inputs()), exact=False)


def test_a_backward_that_lightning_does_not_hear_of_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"are not after 1[\s\S]*self\.manual_backward"):
        on_two_processes(ManualShort(Net()), tmp_path)
