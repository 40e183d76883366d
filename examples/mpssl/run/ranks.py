"""Training in several processes, started by ``torchrun``: the rank, and its share of a batch."""

import os
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from examples.common.run_folder import Config, RunFolder
from examples.mpssl.inputs import Batch

Value = TypeVar("Value")


def start(device: str) -> None:
    """Join the other processes, if ``torchrun`` started several.

    Args:
        device: The device for training.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        on_gpu = torch.device(device).type == "cuda"
        if on_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if on_gpu else "gloo")


def num_ranks() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the first one, which logs, saves and evaluates."""
    return not dist.is_initialized() or dist.get_rank() == 0


def of_first(value: Value) -> Value:
    """Return the first process's value on all processes.

    Args:
        value: The value on the first process; those of the others are ignored.
    """
    if num_ranks() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


class FolderOfFirst(RunFolder):
    """A run's folder that only the first process reads and writes; it sends what it has read."""

    def start(self, config: Config, *, resume: bool) -> dict[str, Any] | None:
        """Begin or continue a run, see ``RunFolder.start``; all processes get the checkpoint.

        Args:
            config: The configuration of the run.
            resume: Continue from the checkpoint if there is one.
        """
        return of_first(super().start(config, resume=resume) if is_first() else None)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a line to the metrics; reports are the same on all ranks, so one writes them.

        Args:
            record: Plain values.
        """
        if is_first():
            super().log(record)

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Save the state of a run.

        Args:
            state: Tensors and plain values, the same on all ranks.
        """
        if is_first():
            super().save_checkpoint(state)


def parallel(model: nn.Module) -> nn.Module:
    """Return the model to use in forward passes: wrapped in DDP if there are several ranks.

    Args:
        model: The model, on its device.
    """
    return DistributedDataParallel(model) if num_ranks() > 1 else model


def share(batch: Batch) -> Batch:
    """Return this process's share of a batch that is the same on all processes.

    Args:
        batch: The whole batch; every input has a class for every task.

    Raises:
        ValueError: The batch cannot be divided equally among the processes.
    """
    size = num_ranks()
    if size == 1:
        return batch
    if len(batch.inputs) % size:
        raise ValueError(
            f"a batch must be divisible among the {size} processes; found {len(batch.inputs)} "
            "inputs"
        )
    mine = slice(dist.get_rank(), None, size)
    return Batch(
        inputs=batch.inputs[mine],
        classes={name: classes[mine] for name, classes in batch.classes.items()},
    )
