"""Write: a scalar whose ordinary backward takes the balanced step."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gradbalance.eager import eager
from gradbalance.gradients.autograd import outer_backward_retains

# From the gradient that the scalar receives, and whether the graph is kept, to that of each end.
TakeStep = Callable[[Tensor, bool], Sequence[Tensor | None]]


def balanced_loss(value: Tensor, ends: Sequence[Tensor], take_step: TakeStep) -> Tensor:
    """A scalar of this value, whose backward takes the step and hands on what it gives.

    Args:
        value: a scalar without a graph.
        ends: the tensors that autograd carries on from.
        take_step: is called once a backward.
    """
    loss: Tensor = _BalancedLoss.apply(value, take_step, *ends)  # type: ignore[no-untyped-call]
    return loss


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
        retains = outer_backward_retains()
        gradients = list(map(_for_autograd, ctx.ends, ctx.take_step(factor, retains)))
        if not retains:
            ctx.take_step = ctx.ends = None
        return None, None, *gradients


def _for_autograd(end: Tensor, gradient: Tensor | None) -> Tensor | None:
    """None becomes zeros where hooks would be called with it."""
    if (
        gradient is None
        and end.is_leaf
        and (end._backward_hooks or end._post_accumulate_grad_hooks)
    ):
        return torch.zeros_like(end)
    return gradient
