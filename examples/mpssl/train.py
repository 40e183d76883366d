"""Train one run: mixed inputs, a loss per pretext task, and the balancer in place of a sum."""

from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional

import gradbalance as gb
from examples.common import transforms
from examples.common.data.image_set import ImageSet
from examples.common.divergence import tells_divergence
from examples.common.run_folder import RunFolder
from examples.common.trunk import PretextModel
from examples.mpssl import ranks
from examples.mpssl.inputs import Batch, label_batch, pretext_batch
from examples.mpssl.presets import RunConfig, build_balancer, build_model_of
from examples.mpssl.progress import RunProgress


class Training:
    """A run between two of its epochs: all that changes, and so all that a checkpoint holds.

    Args:
        config: The run.
        train_set: Its training images. Their labels are looked at by a supervised run only.
    """

    def __init__(self, config: RunConfig, train_set: ImageSet) -> None:
        self.config = config
        self.tasks = config.pretext_tasks
        self.images = train_set.images.to(config.device)
        self.labels = {
            name: torch.as_tensor(labels, device=config.device)
            for name, labels in train_set.labels.items()
        }
        self.batch_size = min(config.batch_size, len(train_set))
        self.steps_per_epoch = len(train_set) // self.batch_size
        self.epoch = 0
        self.model = build_model_of(config, train_set)
        self.balancer: gb.Balancer = build_balancer(config, self.model)
        self._forward = ranks.parallel(self.model)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=config.lr,
            momentum=0.9,
            weight_decay=config.weight_decay,
        )
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimizer, config.epochs * self.steps_per_epoch
        )
        # Its own generator, on the CPU: the same draws on every device.
        self.generator = torch.Generator().manual_seed(config.seed)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides how the run goes on."""
        return {
            "epoch": self.epoch,
            "generator": self.generator.get_state(),
            **{name: part.state_dict() for name, part in self._parts().items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state.

        Args:
            state: What ``state_dict`` returned.
        """
        self.epoch = state["epoch"]
        self.generator.set_state(state["generator"])
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def step(self, chosen: Tensor) -> gb.Report:
        """Take one step.

        Args:
            chosen: Which training images, as indexes [N].
        """
        batch = ranks.share(self.batch(chosen))
        self.optimizer.zero_grad()
        report = self.balancer.backward(self._losses(batch))
        self.optimizer.step()
        self.schedule.step()
        if self.balancer.wants_after_step:
            with torch.no_grad():
                self.balancer.after_step(self._losses(batch))
        return report

    def batch(self, chosen: Tensor) -> Batch:
        """Return the inputs made of some training images, and what is asked about them.

        Args:
            chosen: Which training images, as indexes [N].
        """
        chosen = chosen.to(self.images.device)
        images = transforms.crop_and_flip(transforms.to_float(self.images[chosen]), self.generator)
        if not self.tasks:
            return label_batch(images, {name: known[chosen] for name, known in self.labels.items()})
        return pretext_batch(images, self.tasks, self.config.recipe, self.generator)

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        device = batch.inputs.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self._autocast):
            logits = self._forward(batch.inputs)
            return {
                name: functional.cross_entropy(logits[name][batch.rows[name]], right.to(device))
                for name, right in batch.classes.items()
            }

    @property
    def _autocast(self) -> bool:
        on_gpu = torch.device(self.config.device).type != "cpu"
        return self.config.precision == "bfloat16" or (self.config.precision == "auto" and on_gpu)

    def _parts(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "balancer": self.balancer,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
        }


def train(
    config: RunConfig,
    train_set: ImageSet,
    folder: RunFolder,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> PretextModel:
    """Train a run to its end, with a checkpoint after every epoch.

    Args:
        config: The run.
        train_set: Its training images.
        folder: Where its files go.
        resume: Continue the run in the folder, if there is one.
        console: Where to show the progress.

    Returns:
        The trained model.
    """
    training = Training(config, train_set)
    checkpoint = ranks.of_first(folder.start(config, resume=resume) if ranks.is_first() else None)
    if checkpoint is not None:
        training.load_state_dict(checkpoint)
    with RunProgress(
        console if console and ranks.is_first() else Console(quiet=True),
        name=config.name,
        epochs=config.epochs,
        steps_per_epoch=training.steps_per_epoch,
        epochs_done=training.epoch,
    ) as progress:
        while training.epoch < config.epochs:
            _train_epoch(training, folder, progress)
            training.epoch += 1
            if ranks.is_first():
                folder.save_checkpoint(training.state_dict())
    return training.model


def _train_epoch(training: Training, folder: RunFolder, progress: RunProgress) -> None:
    config = training.config
    training.model.train()
    order = torch.randperm(len(training.images), generator=training.generator)
    reports = []
    for index in range(training.steps_per_epoch):
        # A smaller last batch is left out: batch norm would see fewer images than it is used to.
        chosen = order[index * training.batch_size :][: training.batch_size]
        step = training.epoch * training.steps_per_epoch + index + 1
        with tells_divergence(config.name, f"at step {step}", {"--lr": config.lr}):
            reports.append(training.step(chosen))
        if ranks.is_first():  # the reports of all ranks are the same
            folder.log({"kind": "step", "step": step, **reports[-1].as_dict()})
        progress.step(reports[-1])
    training.balancer.end_epoch()
    means: dict[str, float] = {}
    for report in reports:
        for key, value in report.as_dict().items():
            if key.startswith(("loss/", "weight/")):
                means[f"mean_{key}"] = means.get(f"mean_{key}", 0.0) + value / len(reports)
    lr = training.schedule.get_last_lr()[0]
    if ranks.is_first():
        folder.log({"kind": "epoch", "epoch": training.epoch + 1, "lr": lr, **means})
