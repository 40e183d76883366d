"""What every framework is held to: a model of three tasks, and the loop that one writes by hand."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

import gradbalance as gb

TASKS = ("sum", "first", "norm")


class Net(nn.Module):
    """A trunk and a head a task; the balancer is part of it, so that its state is saved with it."""

    def __init__(self, balancer: Callable[["Net"], gb.Balancer] | None = None) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.trunk = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5))
            self.heads = nn.ModuleDict({task: nn.Linear(5, 1) for task in TASKS})
        self.balancer = gb.Balancer(gb.UPGrad()) if balancer is None else balancer(self)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        z = self.trunk(x)
        return {task: head(z) for task, head in self.heads.items()}


def losses_of(outputs: Mapping[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    targets = {"sum": x.sum(1), "first": -3 * x[:, 0], "norm": x.square().sum(1)}
    return {task: (outputs[task][:, 0] - targets[task]).square().mean() for task in TASKS}


def inputs(num_batches: int = 4, batch_size: int = 6) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return list(torch.randn(num_batches, batch_size, 4, generator=generator))


def with_state(net: nn.Module) -> gb.Balancer:
    """A balancer whose steps depend on those before, over weights that are reused."""
    return gb.Balancer(gb.CRMOGM(gb.UPGrad()), every=2)


def loop(
    net: Net,
    batches: Iterable[Tensor],
    *,
    accumulate: int = 1,
    clip: float | None = None,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    lr: float = 0.1,
) -> dict[str, Tensor]:
    """The parameters after a loop by hand.

    Args:
        net: is trained.
        batches: one for each backward.
        accumulate: how many backwards make a step of the optimizer; their losses are divided by it.
        clip: the largest norm of the gradients.
        autocast: the context of the forward pass.
        lr: learning rate.
    """
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    for index, x in enumerate(batches):
        with autocast():
            losses = losses_of(net(x), x)
        loss = net.balancer(losses) / accumulate
        loss.backward()
        if (index + 1) % accumulate == 0:
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
    return values_of(net)


def values_of(net: nn.Module) -> dict[str, Tensor]:
    """The parameters by name, whatever a framework put in front of the names."""
    return {
        name.removeprefix("module.").removeprefix("net."): parameter.detach().clone()
        for name, parameter in net.named_parameters()
    }


def as_arrays(values: Mapping[str, Tensor]) -> dict[str, Any]:
    """As one process can give them to another that outlives it."""
    return {name: value.numpy() for name, value in values.items()}


def as_tensors(values: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value) for name, value in values.items()}


def assert_same(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, exact: bool = True
) -> None:
    """Assert that two models hold the same, bit for bit unless sums were taken in another order."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if exact:
            assert torch.equal(found[name], value), name
        else:
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
