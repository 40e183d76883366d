"""Adam with a balanced step on each batch, and L-BFGS with the weights held."""

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

_EPOCH = 100  # steps of Adam, for methods that know epochs
_NUM_AT_ONCE = 50  # iterations of L-BFGS between two looks at the loss
_STALLED = 1e-3  # a loss that falls by less, relatively, between two looks


def adam(
    config: RunConfig, network: Network, balancing: Balancing, batches: Iterable[LossesNow]
) -> Iterator[tuple[int, Array]]:
    """Take a balanced step on each batch; yield the steps taken, and the weights of the last.

    Args:
        config: The run.
        network: What is trained.
        balancing: What stands for ``sum(losses).backward()``.
        batches: The losses of each, to be computed anew whenever they are asked for.

    Raises:
        ValueError: A loss or gradient is not finite; it names the run and the step.
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
    """Yield the number of iterations so far, some at a time; the weights are held.

    L-BFGS learns the curvature of one function, so the weights must stay as they are. Those of a
    single step are noise: where the last batch has no conflict, UPGrad's are those of the plain
    sum. Their average is not; `balancer.hold()` would hold the former.

    After a line search that failed, torch's L-BFGS takes the same direction for ever; so it begins
    anew where the loss has stopped to fall.

    Args:
        config: The run.
        network: What is trained.
        held: The weights, one for each loss.
        losses: The losses, always at the same points.

    Raises:
        ValueError: A loss is not finite; it names the run.
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
