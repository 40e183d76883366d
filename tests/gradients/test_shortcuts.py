"""Shortcuts on the way from losses to rows must not be seen: by hooks, autocast, or modules."""

import numpy as np
import pytest
import torch
from torch import nn

import gradbalance as gb
from gradbalance import loss as loss_module
from tests.models import Net, grads
from tests.test_balancer import SOURCES

sources = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())


def step(source, **options):
    """The report and the gradients of one step."""
    model = Net()
    report = gb.Balancer(gb.UPGrad(), source(model), **options).backward(model.losses())
    return report, grads(model)


@sources
@pytest.mark.parametrize("retain_graph", [False, True])
def test_a_step_with_and_without_a_node_of_its_own_writes_the_same(
    source, retain_graph, monkeypatch
):
    def written(limit):
        monkeypatch.setattr(loss_module, "_WORTH_NO_COPY", limit)
        model, seen = Net(), []
        for name, parameter in model.named_parameters():
            parameter.register_hook(lambda gradient, name=name: seen.append(name))
            parameter.register_post_accumulate_grad_hook(lambda p: seen.append(p.shape))
        balancer, losses = gb.Balancer(gb.UPGrad(), source(model)), model.losses()
        balancer.backward(losses, retain_graph=retain_graph)
        if not retain_graph:
            with pytest.raises((ValueError, RuntimeError), match=r"freed|second time|exactly one"):
                balancer.backward(losses)
        return grads(model), sorted(map(str, seen))

    (one, hooks), (other, other_hooks) = written(1 << 17), written(-1)
    assert hooks == other_hooks
    for name, gradient in one.items():
        assert (gradient is None) == (other[name] is None)
        assert gradient is None or torch.equal(gradient, other[name])


@sources
def test_a_hook_that_changes_the_gradient_of_a_loss_in_place_acts_once_a_step(source):
    model, plain = Net(), Net()
    balancer, other = (gb.Balancer(gb.UPGrad(), source(net)) for net in (model, plain))
    for _ in range(3):
        model.zero_grad()
        plain.zero_grad()
        losses, doubled = model.losses(), plain.losses()
        next(iter(losses.values())).register_hook(lambda gradient: gradient.mul_(2.0))
        first = next(iter(doubled))
        doubled[first] = 2.0 * doubled[first]
        report, expected = balancer.backward(losses), other.backward(doubled)
        assert report.gram == pytest.approx(expected.gram)
        for name, gradient in grads(model).items():
            torch.testing.assert_close(gradient, grads(plain)[name])


@sources
def test_hooks_after_accumulation_see_each_parameter_once(source):
    model, seen = Net(), []
    for name, parameter in model.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda p, name=name: seen.append(name))
    gb.Balancer(gb.UPGrad(), source(model)).backward(model.losses())
    assert sorted(seen) == sorted(name for name, g in grads(model).items() if g is not None)


@sources
def test_a_backward_inside_autocast_is_as_exact_as_outside(source):
    report, written = step(source)
    model = Net()
    balancer = gb.Balancer(gb.UPGrad(), source(model))
    losses = model.losses()
    with torch.autocast("cpu", torch.bfloat16):
        found = balancer.backward(losses)
    assert found.gram == pytest.approx(report.gram, rel=1e-6)
    for name, gradient in grads(model).items():
        if gradient is not None:
            torch.testing.assert_close(gradient, written[name])


def test_each_gradient_can_be_changed_in_place_alone():
    _, written = step(lambda model: gb.SharedParameters(model.trunk))
    gradients = [g for g in written.values() if g is not None]
    before = [g.clone() for g in gradients]
    gradients[0].mul_(0.0)
    assert all(map(torch.equal, gradients[1:], before[1:]))


def test_a_layer_that_leaves_a_module_is_no_longer_shared():
    model = Net()
    balancer = gb.Balancer(gb.UPGrad(), gb.SharedParameters(model.trunk))
    whole = balancer.measure(model.losses())
    layer, model.trunk[0] = model.trunk[0], nn.Identity()
    model.x = layer(model.x).detach()
    rest = balancer.measure(model.losses())
    assert (np.diagonal(rest.gram) < np.diagonal(whole.gram)).all()


class ByAutograd(gb.StatelessSolver):
    """Weights from a gradient that the solver takes itself."""

    needs = "gramian"
    weighs = "gradients"

    def solve(self, problem):
        with torch.enable_grad():
            logits = torch.zeros(len(problem.names), requires_grad=True, dtype=torch.float64)
            weights = logits.softmax(0)
            (weights @ torch.from_numpy(problem.gramian) @ weights).backward()
        return gb.Solution((-logits.grad).softmax(0).numpy())


@sources
def test_a_solver_may_differentiate_while_it_solves(source):
    model = Net()
    report = gb.Balancer(ByAutograd(), source(model)).backward(model.losses())
    assert report.weights.sum() == pytest.approx(1.0)
