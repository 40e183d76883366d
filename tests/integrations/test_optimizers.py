"""Optimizers of every kind take what a balanced loss writes, as they take any gradient."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradbalance as gb
from tests.distributed.processes import NEEDS_FSDP2, run
from tests.distributed.test_fsdp import full, sharded_model
from tests.distributed.test_ranks import losses_of as losses_of_rank
from tests.distributed.test_ranks import share
from tests.integrations.plain import Net, assert_same, inputs, loop, losses_of, values_of

SOURCES: dict[str, Callable[[Net], gb.Source]] = {
    "found": lambda net: gb.SharedParameters(),
    "named": lambda net: gb.SharedParameters(net.trunk),
    "sketched": lambda net: gb.SharedParameters(net.trunk, sketch=16),
    "groups": lambda net: gb.SharedParameters({"a": net.trunk[0], "b": net.trunk[2]}),
    "representation": lambda net: gb.Representation(net.trunk),
}


def balanced_steps(net: Net, optimizer: Any) -> None:
    for x in inputs():
        optimizer.zero_grad()
        net.balancer(losses_of(net(x), x)).backward()
        optimizer.step()


@pytest.mark.parametrize("kind", ["foreach", "fused"])
def test_foreach_and_fused(kind: str) -> None:
    net, other = Net(), Net()
    balanced_steps(net, torch.optim.AdamW(net.parameters(), lr=0.01, **{kind: True}))
    balanced_steps(other, torch.optim.AdamW(other.parameters(), lr=0.01, foreach=False))
    assert_same(values_of(net), values_of(other), exact=False)


def test_schedule_free() -> None:
    schedulefree = pytest.importorskip("schedulefree", reason="pip install '.[integrations]'")
    net, other = Net(), Net()
    optimizer = schedulefree.SGDScheduleFree(net.parameters(), lr=0.1)
    optimizer.train()
    balanced_steps(net, optimizer)
    by_hand = schedulefree.SGDScheduleFree(other.parameters(), lr=0.1)
    by_hand.train()
    for x in inputs():
        by_hand.zero_grad()
        _weighted(other, x)
        by_hand.step()
    assert_same(values_of(net), values_of(other), exact=False)


def _weighted(net: Net, x: Tensor) -> None:
    """The step of UPGrad by its weights: the trunk's rows combined, and heads as they are."""
    losses = losses_of(net(x), x)
    report = net.balancer.measure(losses)
    of_trunk = list(net.trunk.parameters())
    rows = [torch.autograd.grad(x, of_trunk, retain_graph=True) for x in losses.values()]
    sum(losses.values()).backward()  # type: ignore[union-attr]
    for index, parameter in enumerate(of_trunk):
        parts = [w * row[index] for w, row in zip(report.weights, rows, strict=True)]
        parameter.grad = torch.stack(parts).sum(0)


def test_sharpness_aware_minimisation() -> None:
    """Its two backwards: weights are solved for at the start, and held where it has climbed to."""
    net, other, rho = Net(), Net(), 0.05
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    by_hand = torch.optim.SGD(other.parameters(), lr=0.1)
    for x in inputs():
        optimizer.zero_grad()
        net.balancer(losses_of(net(x), x)).backward()
        with _climbed(net, rho):
            optimizer.zero_grad()
            with net.balancer.hold():
                net.balancer(losses_of(net(x), x)).backward()
        optimizer.step()

        by_hand.zero_grad()
        weights = other.balancer.backward(losses_of(other(x), x)).weights
        with _climbed(other, rho):
            by_hand.zero_grad()
            losses = losses_of(other(x), x).values()
            sum(w * loss for w, loss in zip(weights, losses, strict=True)).backward()
        by_hand.step()
    assert_same(values_of(net), values_of(other), exact=False)


@contextmanager
def _climbed(net: nn.Module, rho: float) -> Iterator[None]:
    """At the point that is rho away along the gradient."""
    before = [parameter.detach().clone() for parameter in net.parameters()]
    norm = torch.stack([parameter.grad.norm() for parameter in net.parameters()]).norm()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(rho * parameter.grad / norm)
    yield
    with torch.no_grad():
        for parameter, value in zip(net.parameters(), before, strict=True):
            parameter.copy_(value)


def stepping_in_backward(parameters: list[Tensor], lr: float) -> Iterator[Any]:
    """One optimizer a parameter, stepped as soon as its gradient is there, which it frees."""
    for parameter in parameters:
        optimizer = torch.optim.SGD([parameter], lr=lr)

        def step(parameter: Tensor, optimizer: Any = optimizer) -> None:
            optimizer.step()
            parameter.grad = None

        yield parameter.register_post_accumulate_grad_hook(step)


@pytest.mark.parametrize("solver", [gb.UPGrad, gb.MGDA])
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("source", SOURCES)
def test_optimizers_that_step_inside_the_backward(
    source: str, every: int, solver: Callable[[], gb.Solver]
) -> None:
    def balancer(net: Net) -> gb.Balancer:
        return gb.Balancer(solver(), SOURCES[source](net), every=every)

    net = Net(balancer)
    list(stepping_in_backward(list(net.parameters()), lr=0.05))
    for x in inputs():
        net.balancer(losses_of(net(x), x)).backward()
    assert_same(values_of(net), loop(Net(balancer), inputs(), lr=0.05))


def sharded_steps(every: int, inside: bool) -> list[Any]:
    model = sharded_model()
    parameters = list(model.parameters())
    source = gb.ShardedParameters(model.trunk, model)
    balancer = gb.Balancer(gb.MGDA(), source, every=every)
    optimizer = None if inside else torch.optim.SGD(parameters, lr=0.05)
    if inside:
        list(stepping_in_backward(parameters, lr=0.05))
    for _ in range(4):
        balancer(losses_of_rank(model, share())).backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()
    return [full(parameter) for parameter in parameters]


def on_a_rank() -> list[bool]:
    return [
        all(
            (a == b).all()
            for a, b in zip(sharded_steps(k, False), sharded_steps(k, True), strict=True)
        )
        for k in (1, 2)
    ]


@NEEDS_FSDP2
@pytest.mark.filterwarnings("ignore::FutureWarning:torch")
def test_optimizers_that_step_inside_the_backward_of_fsdp2() -> None:
    assert run(2, on_a_rank) == [[True, True]] * 2
