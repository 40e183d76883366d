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
    """One backward of Σ w_i L_i over the tasks in `weights`, into all leaves or `inputs` alone."""
    with _freed_graph_explained():
        torch.autograd.backward(
            [losses[task] for task in weights],
            [torch.full_like(losses[task], weight) for task, weight in weights.items()],
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
