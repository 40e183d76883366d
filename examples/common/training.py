"""Training code that is shared: a balanced step, a state that can be saved, a run in parts."""

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
    """Take a step; if the solver needs it, compute the losses again after the step.

    Args:
        balancer: Balances the losses.
        optimizer: Updates the parameters.
        losses: Computes the losses, on the same batch whenever it is called.
    """
    optimizer.zero_grad()
    report = balancer.backward(losses())
    optimizer.step()
    if balancer.wants_after_step:
        with torch.no_grad():
            balancer.after_step(losses())
    return report


class TrainingState:
    """The state of a run between two steps, which is what a checkpoint contains.

    The optimizer is SGD with momentum and a cosine learning-rate schedule.

    Args:
        model: The model, on its device.
        balancer: The balancer of the model's losses.
        lr: Learning rate at the start.
        weight_decay: Weight decay of SGD.
        num_steps: Number of steps of the run.
        seed: Seed of the random generator.

    Attributes:
        step_done: Number of steps taken.
        generator: The random generator; it is on the CPU, so that its random numbers are the same
            on every device.
        stateful: All objects that have a state of their own, by name; a run may add more.
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
        """Count a step, and set the learning rate of the next one."""
        self.schedule.step()
        self.step_done += 1

    def state_dict(self) -> dict[str, Any]:
        """Return everything that determines how the run continues."""
        return {
            "step": self.step_done,
            "generator": self.generator.get_state(),
            **{name: one.state_dict() for name, one in self.stateful.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state.

        Args:
            state: A state that ``state_dict`` returned.
        """
        self.step_done = state["step"]
        self.generator.set_state(state["generator"])
        for name, one in self.stateful.items():
            one.load_state_dict(state[name])

    def start(self, config: Config, folder: RunFolder, *, resume: bool) -> None:
        """Begin a run, or continue the one in a folder.

        Args:
            config: The configuration of the run.
            folder: The folder for its files.
            resume: Continue from the folder's checkpoint, if there is one.

        Raises:
            ValueError: The run in the folder cannot be continued, see ``RunFolder.start``.
        """
        checkpoint = folder.start(config, resume=resume)
        if checkpoint is not None:
            self.load_state_dict(checkpoint)

    def parts(self, folder: RunFolder, ends: Iterable[int]) -> Iterator[int]:
        """Yield the last step of each remaining part of the run; write a checkpoint after each.

        Args:
            folder: The folder for the checkpoints.
            ends: The last step of each part, in order.
        """
        for end in ends:
            if end > self.step_done:
                yield end
                folder.save_checkpoint(self.state_dict())
