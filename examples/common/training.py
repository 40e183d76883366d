"""What trainings have in common: a balanced step, a state that can be saved, a run in parts."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import gradbalance as gb
from examples.common.run_folder import Config, RunFolder

Losses = dict[str, Tensor]


def balanced_step(
    balancer: gb.Balancer, optimizer: torch.optim.Optimizer, losses: Callable[[], Losses]
) -> gb.Report:
    """Take a step; the losses are computed again after it, for a solver that asks for that.

    Args:
        balancer: Of the losses.
        optimizer: Of what they are to change.
        losses: Computes them, the same ones whenever it is called.
    """
    optimizer.zero_grad()
    report = balancer.backward(losses())
    optimizer.step()
    if balancer.wants_after_step:
        with torch.no_grad():
            balancer.after_step(losses())
    return report


class TrainingState:
    """A run between two of its steps: all that changes, and so all that a checkpoint holds.

    Its optimizer is SGD with momentum, whose learning rate falls as a cosine.

    Args:
        model: The model, on its device.
        balancer: Of its losses.
        lr: Learning rate at the start.
        weight_decay: Of SGD.
        num_steps: Of the run.
        seed: Of every draw.

    Attributes:
        step_done: Number of steps taken.
        generator: Of every draw; on the CPU, so that draws are the same on every device.
        stateful: By name all that has a state of its own; a run may add to it.
    """

    def __init__(
        self,
        model: nn.Module,
        balancer: gb.Balancer,
        *,
        lr: float,
        weight_decay: float,
        num_steps: int,
        seed: int,
    ) -> None:
        self.balancer = balancer
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, num_steps)
        self.generator = torch.Generator().manual_seed(seed)
        self.step_done = 0
        self.stateful: dict[str, Any] = {
            "model": model,
            "balancer": balancer,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
        }

    def count_step(self) -> None:
        """Note that a step was taken; the next one has the next learning rate."""
        self.schedule.step()
        self.step_done += 1

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides how the run goes on."""
        return {
            "step": self.step_done,
            "generator": self.generator.get_state(),
            **{name: one.state_dict() for name, one in self.stateful.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state.

        Args:
            state: What ``state_dict`` returned.
        """
        self.step_done = state["step"]
        self.generator.set_state(state["generator"])
        for name, one in self.stateful.items():
            one.load_state_dict(state[name])

    def start(self, config: Config, folder: RunFolder, *, resume: bool) -> None:
        """Begin a run, or continue the one in a folder.

        Args:
            config: The run.
            folder: Where its files go.
            resume: Continue from the folder's checkpoint, if there is one.

        Raises:
            ValueError: What is in the folder cannot be continued, see ``RunFolder.start``.
        """
        checkpoint = folder.start(config, resume=resume)
        if checkpoint is not None:
            self.load_state_dict(checkpoint)

    def parts(self, folder: RunFolder, ends: Iterable[int]) -> Iterator[int]:
        """Yield the end of each part of the run that is to come; after it, write a checkpoint.

        Args:
            folder: Where the checkpoints go.
            ends: The steps after which a part ends, in order.
        """
        for end in ends:
            if end > self.step_done:
                yield end
                folder.save_checkpoint(self.state_dict())
