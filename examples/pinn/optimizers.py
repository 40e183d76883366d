"""Adam with a balanced step on each batch, and L-BFGS with fixed weights."""

from collections.abc import Callable, Iterable, Iterator
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import gradbalance as gb
from examples.common.divergence import tells_divergence
from examples.pinn.config import RunConfig
from examples.pinn.methods import Balancing
from examples.pinn.network import Network

Array = NDArray[np.float64]
LossesNow = Callable[[], dict[str, Tensor]]

_EPOCH = 100  # steps of Adam that count as an epoch, for methods that use epochs
_NUM_AT_ONCE = 50  # iterations of L-BFGS between two checks of the loss
_STALLED = 1e-3  # the loss has stalled if its relative decrease between two checks is smaller


def adam(
    config: RunConfig, network: Network, balancing: Balancing, batches: Iterable[LossesNow]
) -> Iterator[tuple[int, Array]]:
    """Take a balanced step on each batch; yield the number of steps and the last step's weights.

    Args:
        config: The configuration of the run.
        network: The network to train.
        balancing: The balancer, which replaces ``sum(losses).backward()``.
        batches: For each batch, a function that computes its losses whenever it is called.

    Raises:
        ValueError: A loss or gradient is not finite; the message names the run and the step.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.adam_steps)
    for step, losses in enumerate(batches, 1):
        optimizer.zero_grad()
        with tells_divergence(config.title, f"at step {step}", {"--lr": config.lr}):
            report = balancing.backward(losses())  # in an ordinary loop: sum(losses).backward()
        optimizer.step()
        schedule.step()
        if isinstance(balancing, gb.Balancer):
            if balancing.wants_after_step:
                balancing.after_step(losses())
            if step % _EPOCH == 0:
                balancing.end_epoch()
        yield step, report.weights


def lbfgs(config: RunConfig, network: Network, held: Array, losses: LossesNow) -> Iterator[int]:
    """Train with fixed weights; yield the number of iterations so far after each group of them.

    L-BFGS estimates the curvature of one function, so the weights must not change. The weights of
    a single step are noisy: if the last batch has no conflict, UPGrad's weights are those of the
    plain sum. So the average over several steps is used here, while `balancer.hold()` would hold
    the weights of a single step.

    After a failed line search, PyTorch's L-BFGS would take the same direction forever, so it is
    restarted if the loss no longer falls.

    Args:
        config: The configuration of the run.
        network: The network to train.
        held: The fixed weights, one for each loss.
        losses: A function that computes the losses, always at the same points.

    Raises:
        ValueError: A loss is not finite; the message names the run.
    """
    balancer = gb.Balancer(gb.Uniform(preferences=held.tolist()))
    optimizer = _new_lbfgs(network)

    def closure() -> Tensor:
        network.zero_grad()
        loss: Tensor = balancer(losses())
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    too_large = {"--lr": config.lr, "--lbfgs-steps": config.lbfgs_steps}
    before = inf
    for done in range(0, config.lbfgs_steps, _NUM_AT_ONCE):
        num = min(_NUM_AT_ONCE, config.lbfgs_steps - done)
        optimizer.param_groups[0].update(max_iter=num, max_eval=2 * num)
        with tells_divergence(config.title, f"in L-BFGS after iteration {done}", too_large):
            loss = float(optimizer.step(closure))  # type: ignore[no-untyped-call]  # before these
        stalled = loss > (1 - _STALLED) * before
        if stalled:
            optimizer = _new_lbfgs(network)
        before = inf if stalled else loss
        yield done + num


def _new_lbfgs(network: Network) -> torch.optim.LBFGS:
    return torch.optim.LBFGS(
        network.parameters(),
        history_size=50,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )
