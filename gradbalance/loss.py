"""Write `.grad`: in the backward of a scalar loss, or at once."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gradbalance.eager import eager
from gradbalance.gradients.torch_private import (
    after_running_backward,
    carry_on,
    hooks_after_accumulation,
    hooks_of,
    running_backward_retains,
)

# Called with the gradient that the scalar receives, and whether the graph is kept. Returns the
# gradient of each end, and a callback for when everything is written.
TakeStep = Callable[[float, bool], tuple[Sequence[Tensor | None], Callable[[], None]]]
# In entries. Gradients passed to the engine are copied to `.grad`, those that a node returns are
# not; below this size, a node costs more than the copy.
_WORTH_NO_COPY = 1 << 17


def balanced_loss(value: Tensor, ends: Sequence[Tensor], take_step: TakeStep) -> Tensor:
    """Create a scalar with this value, whose backward takes the step and passes on its gradients.

    Args:
        value: a scalar without a graph.
        ends: the tensors from which autograd continues.
        take_step: called once per backward.
    """
    loss: Tensor = _BalancedLoss.apply(value, take_step, *ends)  # type: ignore[no-untyped-call]
    return loss


def write(ends: Sequence[Tensor], take_step: TakeStep, *, retain_graph: bool) -> None:
    """Do at once what the backward of a balanced loss does.

    Args:
        ends: the tensors from which autograd continues.
        take_step: called once.
        retain_graph: whether the graph is kept afterwards.
    """
    if sum(map(Tensor.numel, ends)) <= _WORTH_NO_COPY:
        with torch.no_grad():
            gradients, commit = take_step(1.0, retain_graph)
            known = [gradient for gradient in gradients if gradient is not None]
            if len(known) == len(ends):
                carry_on(ends, known, retain_graph=retain_graph)
                commit()
                return
        # DDP waits for each end, and only a node reports an end without a gradient.
        taken = gradients, commit
        take_step = lambda factor, kept: taken  # noqa: E731
    with torch.enable_grad():
        loss = balanced_loss(torch.zeros(()), ends, take_step)
    loss.backward(retain_graph=retain_graph)  # type: ignore[no-untyped-call]


class _BalancedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, take_step: TakeStep, *ends: Tensor) -> Tensor:
        ctx.take_step, ctx.ends = take_step, ends
        ctx.save_for_backward(value)
        return value.clone()

    @staticmethod
    @eager
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        ctx.saved_tensors  # noqa: B018 - raises torch's own error if the graph was freed
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the gradients of a balanced loss have no graph of their own: its weights come "
                "from a solver. Without create_graph=True it works; to differentiate twice, hold "
                "the weights, `with balancer.hold(): loss = balancer(losses)`"
            )
        retains = running_backward_retains()
        of_ends, commit = ctx.take_step(float(factor), retains)
        after_running_backward(commit)
        gradients = _with_zeros(ctx.ends, of_ends)
        of_ends = None  # torch copies gradients that are referenced elsewhere
        if not retains:
            ctx.take_step = ctx.ends = None
        return None, None, *gradients


def _with_zeros(ends: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The gradients, with zeros in place of None where hooks would otherwise receive None."""
    return [
        _zeros(end) if found is None and _has_hooks(end) else found
        for end, found in zip(ends, gradients, strict=True)
    ]


def _zeros(end: Tensor) -> Tensor:
    """Zeros for a tensor; sparse where its gradient is, which would become dense otherwise."""
    gradient = end.grad if end.is_leaf else None
    return torch.zeros_like(end if gradient is None or not gradient.is_sparse else gradient)


def _has_hooks(end: Tensor) -> bool:
    return end.is_leaf and bool(hooks_of(end) or hooks_after_accumulation(end))
