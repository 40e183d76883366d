"""`check_source`: compare a source of gradients with plain autograd on a small model."""

import json
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from gradbalance.balancer import Balancer
from gradbalance.gradients import Heads, Source
from gradbalance.solvers import Uniform
from gradbalance.testing.net import Net
from gradbalance.testing.properties import named

WEIGHTS = {"task0": 0.25, "task1": 3.0, "task2": 1.5}
Case = tuple[float, str | None]  # the loss scale, and the task that is absent
Over = Callable[[Net, Tensor], Sequence[Tensor]]


def check_source(
    make: Callable[[Net], Source],
    *,
    over: Over = lambda net, z: list(net.trunk.parameters()),
    rtol: float = 1e-9,
    passes_representation: bool = False,
) -> None:
    """Compare a source with plain autograd: its Gramian, what it writes, and what it must not.

    Uses a trunk with three heads and fixed weights, and checks that the Gramian is that of
    autograd's gradients; that the weighted gradients are added to `.grad`, with raw and with
    weighted heads; that a loss scale multiplies `.grad`, but nothing in the report; that an absent
    task writes nothing; that `measure` writes nothing and changes no state; and that the state is
    plain JSON, from which another source continues in the same way.

    Args:
        make: a function that builds the source for a `Net`, whose `trunk` is shared.
        over: a function from the net and the trunk's output z to the tensors on which the Gramian
            is computed.
        rtol: the allowed error of an entry of the Gramian, relative to the norms of its two
            gradients.
        passes_representation: whether z is passed together with the losses.

    Raises:
        AssertionError: a property does not hold; the message names it, and the step.

    Example:
        >>> import gradbalance as gb
        >>> from gradbalance.testing import check_source
        >>> check_source(lambda net: gb.SharedParameters(net.trunk))
        >>> check_source(lambda net: gb.Representation(net.trunk), over=lambda net, z: [z])
        >>> check_source(lambda net: gb.SharedParameters(net.trunk), over=lambda net, z: [z])
        Traceback (most recent call last):
        AssertionError: ...SharedParameters... with heads='raw', ...the Gramian is ...
    """
    source = make(Net())
    kinds: list[Heads] = ["raw"] if source.measures_gramian else []
    kinds += [] if source.groups else ["weighted"]
    for heads in kinds:
        step = partial(_step, over=over, rtol=rtol, passes=passes_representation)
        net, balancer = _net_and_balancer(make, heads)
        for factor, absent in ((1.0, None), (1024.0, None), (1.0, "task1")):
            with named(f"{source!r} with heads={heads!r}, loss scale {factor}, absent {absent}"):
                step(net, balancer, (factor, absent))
        with named(f"{source!r} with heads={heads!r}, resumed"):
            state = balancer.source.state_dict()
            assert json.loads(json.dumps(state, allow_nan=False)) == state, f"no JSON: {state}"
            other, resumed = _net_and_balancer(make, heads)
            resumed.source.load_state_dict(state)
            assert resumed.source.state_dict() == state, "the state that was loaded is another"
            step(net, balancer, (1.0, None))
            step(other, resumed, (1.0, None))
            assert str(resumed.report.gram) == str(balancer.report.gram), "another Gramian"


def _net_and_balancer(make: Callable[[Net], Source], heads: Heads) -> tuple[Net, Balancer]:
    net = Net()
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    solver = Uniform(preferences=WEIGHTS)
    return net, Balancer(solver, make(net), heads=heads, tasks=tuple(WEIGHTS))


def _step(
    net: Net, balancer: Balancer, case: Case, *, over: Over, rtol: float, passes: bool
) -> None:
    """Measure, take a step, and compare the result with plain autograd on the same graph."""
    (factor, absent), z = case, net.trunk(net.x)
    losses = {task: loss for task, loss in net.losses(z).items() if task != absent}
    weighted = torch.stack([WEIGHTS[task] * loss for task, loss in losses.items()]).sum()
    plain = torch.stack([*losses.values()]).sum() if balancer.options.heads == "raw" else weighted
    trunk, of_heads = list(net.trunk.parameters()), list(net.heads.parameters())
    expected = _differentiate(weighted, trunk) + _differentiate(plain, of_heads)
    rows = [torch.cat([g.flatten() for g in _differentiate(loss, over(net, z))])
            for loss in losses.values()]  # fmt: skip
    passed = z if passes else None
    before, state = _grads(net), balancer.get_extra_state()

    balancer.measure(losses, representation=passed)
    assert all(map(torch.equal, before, _grads(net))), "measure wrote to .grad"
    assert torch.equal(state, balancer.get_extra_state()), "measure changed the state"

    (factor * balancer(losses, representation=passed)).backward()
    for was, now, gradient in zip(before, _grads(net), expected, strict=True):
        why = f".grad changed by {now - was}; expected {factor * gradient}"
        assert torch.allclose(now - was, factor * gradient, rtol=1e-9, atol=1e-9 * factor), why
    if balancer.source.measures_gramian:
        present = [i for i, task in enumerate(WEIGHTS) if task in losses]
        assert balancer.report.gram is not None
        found, jac = balancer.report.gram[np.ix_(present, present)], torch.stack(rows).numpy()
        norms = np.linalg.norm(jac, axis=1)
        near = (np.abs(found - jac @ jac.T) <= rtol * np.outer(norms, norms)).all()
        assert near, f"the Gramian is {found}; expected {jac @ jac.T}"


def _grads(net: Net) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]


def _differentiate(loss: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, inputs, retain_graph=True, materialize_grads=True))
