"""Check the losses that users pass, and give them names."""

from collections.abc import Mapping, Sequence
from numbers import Real

import torch
from torch import Tensor

Losses = Mapping[str, Tensor | None] | Sequence[Tensor | None] | Tensor
LossValues = Mapping[str, Tensor | float | None] | Sequence[Tensor | float | None] | Tensor


def named_losses(
    losses: Losses, tasks: tuple[str, ...] | None, *, differentiable: bool = True
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the losses of the present tasks by name, and the names of all tasks.

    Args:
        losses: a mapping by task name, a sequence (names default to "0", "1", …), or one tensor
            [T]; None stands for an absent task.
        tasks: the names of all tasks, or None at the first call.
        differentiable: whether each loss must have an autograd graph.

    Raises:
        ValueError: no task is present, a task is unknown, or a loss cannot be differentiated.
    """
    given = _by_name(losses, tasks)
    if not any(loss is not None for loss in given.values()):
        raise ValueError("no task: at least one loss is needed; found none")
    tasks = check_tasks(list(given)) if tasks is None else tasks
    present = _present(given, tasks)
    return {n: _checked_loss(n, loss, differentiable) for n, loss in present.items()}, tasks


def named_values(losses: LossValues, tasks: tuple[str, ...] | None) -> dict[str, Tensor]:
    """Return the losses of the present tasks by name; they may be numbers, and need no graph.

    Args:
        losses: a mapping by task name, a sequence, or one tensor [T], of tensors or numbers; None
            stands for an absent task.
        tasks: the names of all tasks, or None before the first step.

    Raises:
        ValueError: no step was taken, no task is present, a task is unknown, or a loss is not a
            number.
    """
    if tasks is None:
        raise ValueError("call balancer.backward(losses) first: no step was taken yet")
    present = _present(_by_name(losses, tasks), tasks)
    if not present:
        raise ValueError("no task: at least one loss is needed; found none")
    for name, loss in present.items():
        if not (loss.numel() == 1 if isinstance(loss, Tensor) else isinstance(loss, Real)):
            raise ValueError(
                f"the loss of task {name!r} must be a number or a tensor of one element; found "
                f"{loss!r}"
            )
    return {
        name: loss if isinstance(loss, Tensor) else torch.tensor(loss, dtype=torch.float64)
        for name, loss in present.items()
    }


def check_tasks(tasks: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the tasks; ValueError if they are not distinct strings."""
    wrong = [task for task in tasks if not isinstance(task, str)]
    if wrong or isinstance(tasks, str):
        raise ValueError(f"tasks must be named by strings; found {wrong or tasks!r}")
    if not tasks or len(set(tasks)) != len(tasks):
        raise ValueError(f"tasks must have distinct names, at least one; found {list(tasks)}")
    return tuple(tasks)


def _present(
    given: Mapping[str, Tensor | float | None], tasks: tuple[str, ...]
) -> dict[str, Tensor | float]:
    """The losses that are given, in the order of all tasks; ValueError if a task is unknown."""
    unknown = [name for name in given if name not in tasks]
    if unknown:
        raise ValueError(
            f"unknown tasks {unknown}; the tasks were fixed as {list(tasks)}, at construction or "
            "at the first call. Name all of them with Balancer(..., tasks=[...])"
        )
    return {name: loss for name in tasks if (loss := given.get(name)) is not None}


def _by_name(losses: LossValues, tasks: tuple[str, ...] | None) -> dict[str, Tensor | float | None]:
    if isinstance(losses, Mapping):
        return dict(losses)
    if isinstance(losses, Tensor):
        if losses.dim() != 1:
            raise ValueError(
                "losses as one tensor must have shape [T], one entry a task; found shape "
                f"{list(losses.shape)}. Pass a single loss as [loss]"
            )
        entries: list[Tensor | float | None] = list(losses.unbind())
    elif isinstance(losses, Sequence) and not isinstance(losses, str):
        entries = list(losses)
    else:
        raise ValueError(
            "losses must be a mapping from names to tensors, a sequence of tensors or a [T] "
            f"tensor; found a {type(losses).__name__}"
        )
    if tasks is not None and len(entries) != len(tasks):
        raise ValueError(
            f"found {len(entries)} losses for the {len(tasks)} tasks {list(tasks)}; pass None for "
            "an absent task, or a mapping"
        )
    return dict(zip(tasks or map(str, range(len(entries))), entries, strict=True))


def _checked_loss(name: str, loss: object, differentiable: bool) -> Tensor:
    if not isinstance(loss, Tensor):
        raise ValueError(
            f"the loss of task {name!r} must be a tensor; found a {type(loss).__name__}"
        )
    if loss.numel() != 1:
        raise ValueError(
            f"the loss of task {name!r} must have one element; found shape {list(loss.shape)}. "
            "Reduce it, with .mean() or .sum()"
        )
    if not loss.is_floating_point():
        raise ValueError(
            f"the loss of task {name!r} must be a real floating-point number; found {loss.dtype}"
        )
    if differentiable and not loss.requires_grad:
        raise ValueError(
            f"the loss of task {name!r} has no graph: nothing that it depends on requires "
            "gradients, or it was computed under torch.no_grad()"
        )
    return loss
