"""Train one run: mixed inputs, a loss per pretext task, and the balancer in place of a sum."""

from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional

import gradbalance as gb
from examples.mpssl import pretext, transforms
from examples.mpssl.data.image_set import ImageSet
from examples.mpssl.presets import RunConfig, build_balancer
from examples.mpssl.progress import RunProgress
from examples.mpssl.run_folder import RunFolder
from examples.mpssl.trunk import PretextModel, build_model


class Training:
    """A run between two of its epochs: all that changes, and so all that a checkpoint holds.

    Args:
        config: The run.
        num_images: Number of training images.
    """

    def __init__(self, config: RunConfig, num_images: int) -> None:
        self.config = config
        self.tasks = pretext.select_tasks(config.tasks)
        self.batch_size = min(config.batch_size, num_images)
        self.steps_per_epoch = num_images // self.batch_size
        self.epoch = 0
        self.model = build_model(self.tasks, seed=config.seed).to(config.device)
        self.balancer: gb.Balancer = build_balancer(config, self.model)
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

    def step(self, images: Tensor) -> gb.Report:
        """Take one step.

        Args:
            images: Training images as 8-bit integers, on the run's device.
        """
        inputs = transforms.crop_and_flip(transforms.to_float(images), self.generator)
        classes = pretext.draw_classes(self.tasks, len(images), self.generator)
        inputs = transforms.normalize(pretext.mix(inputs, self.tasks, classes))
        self.optimizer.zero_grad()
        report = self.balancer.backward(self._losses(inputs, classes))
        self.optimizer.step()
        self.schedule.step()
        if isinstance(self.balancer.solver, gb.AfterStep):
            with torch.no_grad():
                self.balancer.after_step(self._losses(inputs, classes))
        return report

    def _losses(self, inputs: Tensor, classes: dict[str, Tensor]) -> dict[str, Tensor]:
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self._autocast):
            logits = self.model(inputs)
            return {
                name: functional.cross_entropy(logits[name], drawn.to(inputs.device))
                for name, drawn in classes.items()
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
    training = Training(config, len(train_set))
    checkpoint = folder.start(config, resume=resume)
    if checkpoint is not None:
        training.load_state_dict(checkpoint)
    images = train_set.images.to(config.device)
    with RunProgress(
        console or Console(quiet=True),
        name=config.name,
        epochs=config.epochs,
        steps_per_epoch=training.steps_per_epoch,
        epochs_done=training.epoch,
    ) as progress:
        while training.epoch < config.epochs:
            _train_epoch(training, images, folder, progress)
            training.epoch += 1
            folder.save_checkpoint(training.state_dict())
    return training.model


def _train_epoch(
    training: Training, images: Tensor, folder: RunFolder, progress: RunProgress
) -> None:
    training.model.train()
    order = torch.randperm(len(images), generator=training.generator)
    reports = []
    for index in range(training.steps_per_epoch):
        # A smaller last batch is left out: batch norm would see fewer images than it is used to.
        chosen = order[index * training.batch_size :][: training.batch_size]
        reports.append(training.step(images[chosen.to(images.device)]))
        step = training.epoch * training.steps_per_epoch + index + 1
        folder.log({"kind": "step", "step": step, **reports[-1].as_dict()})
        progress.step(reports[-1])
    training.balancer.end_epoch()
    means: dict[str, float] = {}
    for report in reports:
        for key, value in report.as_dict().items():
            if key.startswith(("loss/", "weight/")):
                means[f"mean_{key}"] = means.get(f"mean_{key}", 0.0) + value / len(reports)
    lr = training.schedule.get_last_lr()[0]
    folder.log({"kind": "epoch", "epoch": training.epoch + 1, "lr": lr, **means})
