"""Train one run: mixed inputs, a loss per pretext task, and the balancer in place of a sum.

Where its results go, and how it is resumed, is in ``run/loop.py``.
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
    """A run between two of its steps.

    Args:
        config: The run.
        train_set: Its training images. Their labels are looked at by a supervised run only.
        make_batch: Makes the inputs of images, and the questions about them.
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
        """Take one step: a batch, a loss for each task, and one balanced backward.

        Args:
            chosen: Which training images, as indexes [N].
        """
        batch = ranks.share(self.batch(chosen))
        report = balanced_step(self.balancer, self.optimizer, lambda: self.losses(batch))
        self.count_step()
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
        return self.make_batch(images, self.tasks, self.generator)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return each task's cross-entropy.

        Args:
            batch: Inputs with their questions and answers.
        """
        device = batch.inputs.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self._autocast):
            logits = self._forward(batch.inputs)
            return {
                name: functional.cross_entropy(logits[name], right.to(device))
                for name, right in batch.classes.items()
            }

    def epoch(self) -> Iterator[gb.Report]:
        """Take the steps of an epoch, in an order drawn anew; yield the report of each."""
        self.model.train()
        order = torch.randperm(len(self.images), generator=self.generator)
        # A smaller last batch is left out: batch norm would see fewer images than it is used to.
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
