"""A balanced step of an optimizer, for the classifier and for the latents."""

from collections.abc import Callable

import torch
from torch import Tensor

import gradbalance as gb

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
