"""The three ways in which the sources use autograd: measure, accumulate, one weighted backward."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


def differentiate(
    task: str, loss: Tensor, inputs: Sequence[Tensor], *, retain_graph: bool
) -> tuple[Tensor | None, ...]:
    """The gradients of a task's loss with respect to `inputs`; None where it does not reach one."""
    leaves = [tensor for tensor in inputs if tensor.is_leaf]
    with _freed_graph_explained(f" of task {task!r}"), _hooks_suspended(leaves):
        return torch.autograd.grad(
            loss,
            list(inputs),
            torch.ones_like(loss),
            retain_graph=retain_graph,
            allow_unused=True,
        )


def differentiate_each(
    losses: Mapping[str, Tensor],
    inputs: Sequence[Tensor],
    own: Mapping[str, Sequence[Tensor]],
    *,
    retain_graph: bool,
    chunk_size: int,
) -> Iterator[tuple[str, Sequence[Tensor | None], Sequence[Tensor | None]]]:
    """Each task with its gradients with respect to `inputs`, and to leaves of its own.

    Args:
        losses: by task.
        inputs: what all tasks are differentiated by.
        own: further leaves of each task.
        retain_graph: whether the graph must outlive the last of them.
        chunk_size: how many tasks are differentiated together.
    """
    tasks = list(losses)
    for start in range(0, len(tasks), chunk_size):
        chunk = tasks[start : start + chunk_size]
        retain = retain_graph or start + chunk_size < len(tasks)
        if len(chunk) == 1:
            (task,) = chunk
            found = differentiate(task, losses[task], [*inputs, *own[task]], retain_graph=retain)
            yield task, found[: len(inputs)], found[len(inputs) :]
            continue
        leaves = list({leaf: None for task in chunk for leaf in own[task]})
        together = _differentiate_together(
            [losses[task] for task in chunk], [*inputs, *leaves], retain_graph=retain
        )
        of_leaf = dict(zip(leaves, together[len(inputs) :], strict=True))
        for index, task in enumerate(chunk):
            yield (
                task,
                [None if g is None else g[index] for g in together[: len(inputs)]],
                [None if (g := of_leaf[leaf]) is None else g[index] for leaf in own[task]],
            )


def _differentiate_together(
    losses: Sequence[Tensor], inputs: Sequence[Tensor], *, retain_graph: bool
) -> tuple[Tensor | None, ...]:
    """The gradients of k losses in one vectorised backward, [k, …] for each input."""
    leaves = [tensor for tensor in inputs if tensor.is_leaf]
    units = [
        torch.eye(len(losses), dtype=loss.dtype, device=loss.device)[:, i].view(-1, *loss.shape)
        for i, loss in enumerate(losses)
    ]
    with _freed_graph_explained(), _hooks_suspended(leaves):
        try:
            return torch.autograd.grad(
                losses,
                list(inputs),
                units,
                retain_graph=retain_graph,
                allow_unused=True,
                is_grads_batched=True,
            )
        except (RuntimeError, NotImplementedError) as error:
            if "backward through the graph a second time" in str(error):
                raise
            raise ValueError(
                "these losses cannot be differentiated together, some operation does not support "
                f"torch.vmap; use chunk_size=1 ({error})"
            ) from error


def accumulate(
    tensors: Sequence[Tensor], gradients: Sequence[Tensor], *, retain_graph: bool = False
) -> None:
    """Send gradients from tensors back to the leaves behind them, or to the leaves they are.

    `.grad` is added to and all hooks fire, as in `Tensor.backward`.
    """
    if tensors:
        with _freed_graph_explained():
            torch.autograd.backward(list(tensors), list(gradients), retain_graph=retain_graph)


def weighted_backward(
    losses: Mapping[str, Tensor],
    weights: Mapping[str, float],
    *,
    retain_graph: bool,
    inputs: list[Tensor] | None = None,
) -> None:
    """One backward of Σ w_i L_i over the tasks in `weights`, into all leaves or `inputs` alone.

    A task with a weight and no loss is one of other ranks.
    """
    with _freed_graph_explained():
        torch.autograd.backward(
            [losses[task] for task in weights if task in losses],
            [torch.full_like(losses[t], weight) for t, weight in weights.items() if t in losses],
            retain_graph=retain_graph,
            inputs=inputs,
        )


@contextmanager
def _freed_graph_explained(where: str = "") -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "backward through the graph a second time" not in str(error):
            raise
        raise ValueError(
            f"the graph{where} was freed by an earlier backward; compute the losses anew, or call "
            "the earlier one with retain_graph=True"
        ) from error


@contextmanager
def _hooks_suspended(leaves: list[Tensor]) -> Iterator[None]:
    """Keep the tensor hooks of leaves from firing while gradients are only measured.

    They fire once, on what is accumulated, as they do in `Tensor.backward`; otherwise they would
    be applied to every row and then again to the sum.
    """
    suspended = [(hooks, dict(hooks)) for leaf in leaves if (hooks := leaf._backward_hooks)]
    try:
        for hooks, _ in suspended:
            hooks.clear()
        yield
    finally:
        for hooks, saved in suspended:
            hooks.update(saved)
