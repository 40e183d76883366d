"""Write: a scalar whose ordinary backward takes the balanced step, or the step at once."""

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

# From the gradient that the scalar receives, and whether the graph is kept, to that of each end,
# and what is to be called once all is written.
TakeStep = Callable[[float, bool], tuple[Sequence[Tensor | None], Callable[[], None]]]
# Entries: a gradient that the engine was handed is copied to `.grad`, and one that a node returns
# is not; for fewer than this a node costs more.
_WORTH_NO_COPY = 1 << 17


def balanced_loss(value: Tensor, ends: Sequence[Tensor], take_step: TakeStep) -> Tensor:
    """A scalar of this value, whose backward takes the step and hands on what it gives.

    Args:
        value: a scalar without a graph.
        ends: the tensors that autograd carries on from.
        take_step: is called once a backward.
    """
    loss: Tensor = _BalancedLoss.apply(value, take_step, *ends)  # type: ignore[no-untyped-call]
    return loss


def write(ends: Sequence[Tensor], take_step: TakeStep, *, retain_graph: bool) -> None:
    """What the backward of a balanced loss does, at once.

    Args:
        ends: the tensors that autograd carries on from.
        take_step: is called once.
        retain_graph: whether the graph must outlive this.
    """
    if sum(map(Tensor.numel, ends)) <= _WORTH_NO_COPY:
        with torch.no_grad():
            gradients, commit = take_step(1.0, retain_graph)
            known = [gradient for gradient in gradients if gradient is not None]
            if len(known) == len(ends):
                carry_on(ends, known, retain_graph=retain_graph)
                commit()
                return
        # DDP waits to hear of each end, and only a node tells of one that has no gradient.
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
        ctx.saved_tensors  # noqa: B018 - once it was freed, torch's own error
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
        of_ends = None  # torch copies what something else holds
        if not retains:
            ctx.take_step = ctx.ends = None
        return None, None, *gradients


def _with_zeros(ends: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The gradients, with zeros for None where hooks would be called with it."""
    return [
        torch.zeros_like(end) if found is None and _has_hooks(end) else found
        for end, found in zip(ends, gradients, strict=True)
    ]


def _has_hooks(end: Tensor) -> bool:
    return end.is_leaf and bool(hooks_of(end) or hooks_after_accumulation(end))
