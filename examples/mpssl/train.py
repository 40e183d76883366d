"""Trains one run: mixed inputs, one loss per pretext task, and a balancer instead of a sum.

``run/loop.py`` saves the results of a run and resumes it.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

import gradbalance as gb
from examples.common import transforms
from examples.common.data.image_set import ImageSet
from examples.common.divergence import tells_divergence
from examples.common.training import TrainingState, balanced_step
from examples.mpssl.inputs import Batch, MakeBatch, label_batch, pretext_batch
from examples.mpssl.presets import RunConfig, build_balancer, build_model_of
from examples.mpssl.run import ranks


class Training(TrainingState):
    """The state of a run between two steps.

    Args:
        config: The configuration of the run.
        train_set: The training images; only a supervised run uses their labels.
        make_batch: Makes the inputs and their classes from images.
    """

    def __init__(
        self, config: RunConfig, train_set: ImageSet, make_batch: MakeBatch = pretext_batch
    ) -> None:
        self.config = config
        self.tasks = config.pretext_tasks
        self.make_batch = make_batch
        self.images = train_set.images.to(config.device)
        self.labels = {
            name: torch.as_tensor(labels, device=config.device)
            for name, labels in train_set.labels.items()
        }
        self.batch_size = min(config.batch_size, len(train_set))
        self.steps_per_epoch = len(train_set) // self.batch_size
        self.model = build_model_of(config, train_set)
        super().__init__(
            self.model,
            build_balancer(config, self.model),
            lr=config.lr,
            weight_decay=config.weight_decay,
            num_steps=config.epochs * self.steps_per_epoch,
            seed=config.seed,
        )
        self._forward = ranks.parallel(self.model)

    def step(self, chosen: Tensor) -> gb.Report:
        """Take one step: a batch, a loss for each task, and one balanced backward pass.

        Args:
            chosen: Indexes [N] of the training images.
        """
        batch = ranks.share(self.batch(chosen))
        report = balanced_step(self.balancer, self.optimizer, lambda: self.losses(batch))
        self.count_step()
        return report

    def batch(self, chosen: Tensor) -> Batch:
        """Return the inputs made from some training images, and their classes.

        Args:
            chosen: Indexes [N] of the training images.
        """
        chosen = chosen.to(self.images.device)
        images = transforms.crop_and_flip(transforms.to_float(self.images[chosen]), self.generator)
        if not self.tasks:
            return label_batch(images, {name: known[chosen] for name, known in self.labels.items()})
        return self.make_batch(images, self.tasks, self.generator)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return each task's cross-entropy.

        Args:
            batch: Inputs with their classes.
        """
        device = batch.inputs.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self._autocast):
            logits = self._forward(batch.inputs)
            return {
                name: functional.cross_entropy(logits[name], right.to(device))
                for name, right in batch.classes.items()
            }

    def epoch(self) -> Iterator[gb.Report]:
        """Take the steps of an epoch, with the images in a new random order; yield each report."""
        self.model.train()
        order = torch.randperm(len(self.images), generator=self.generator)
        # A smaller last batch is skipped: batch norm would see fewer images than in other steps.
        for chosen in torch.split(order, self.batch_size)[: self.steps_per_epoch]:
            when, rates = f"at step {self.step_done + 1}", {"--lr": self.config.lr}
            with tells_divergence(self.config.name, when, rates):
                report = self.step(chosen)
            yield report
        self.balancer.end_epoch()

    @property
    def _autocast(self) -> bool:
        on_gpu = torch.device(self.config.device).type != "cpu"
        return self.config.precision == "bfloat16" or (self.config.precision == "auto" and on_gpu)
