"""Custom functions that run a backward of their own, or give the same buffer out again."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import gradbalance as gb
from tests.models import grads

torch_engine = torch.autograd.Variable._execution_engine


class Recomputed(torch.autograd.Function):
    """A module that is computed again in the backward, which writes `.grad` by itself."""

    @staticmethod
    def forward(ctx, x, module):
        ctx.module = module
        ctx.save_for_backward(x)
        with torch.no_grad():
            return module(x)

    @staticmethod
    def backward(ctx, gradient):
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            y = ctx.module(x)
        torch.autograd.backward(y, gradient)
        return x.grad, None


class Implicit(torch.autograd.Function):
    """2x, whose backward asks for gradients and writes none."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(2 * x, x, gradient)[0]


class Reversible(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.body = nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(2))
        self.x = torch.randn(5, 3)

    def trunk(self, plain=False):
        z = self.stem(self.x)
        return self.body(z) if plain else Recomputed.apply(z, self.body)

    def losses(self, z=None):
        z = self.trunk() if z is None else z
        return [(head(z) - 3 * i).square().mean() for i, head in enumerate(self.heads)]


@pytest.mark.parametrize("before", [None, 7.0])
@pytest.mark.parametrize("call", ["backward", "measure", "accumulate"])
@pytest.mark.parametrize(
    "source",
    [
        lambda model: gb.SharedParameters(),
        lambda model: gb.SharedParameters(model.stem, chunk_size=2),
        lambda model: gb.SharedParameters(model.stem, sketch=100),
        lambda model: gb.SharedParameters(model.stem, measure=model.stem.weight),
    ],
    ids=["found", "together", "sketched", "measured"],
)
def test_a_backward_inside_a_backward_is_refused_before_it_writes(source, call, before):
    model = Reversible()
    for parameter in model.parameters():
        parameter.grad = None if before is None else torch.full_like(parameter, before)
    expected = copy.deepcopy(grads(model))
    balancer = gb.Balancer(gb.MGDA(), source(model))
    with pytest.raises(ValueError, match=r"custom function runs a backward.*use_reentrant=False"):
        getattr(balancer, call)(model.losses())
    for name, gradient in grads(model).items():
        assert gradient is expected[name] or torch.equal(gradient, expected[name])
    assert torch.autograd.Variable._execution_engine is torch_engine


@pytest.mark.parametrize("source", [gb.LossesOnly, gb.Representation])
def test_one_backward_through_it_is_the_plain_one(source):
    model, plain = Reversible(), Reversible()
    z = model.trunk()
    passed = z if source is gb.Representation else None
    gb.Balancer(gb.Uniform(), source()).backward(model.losses(z), representation=passed)
    sum(plain.losses(plain.trunk(plain=True))).backward()
    for name, gradient in grads(plain).items():
        torch.testing.assert_close(grads(model)[name], gradient)


@pytest.mark.parametrize("heads", ["raw", "weighted"])
def test_measured_above_it_the_weighted_backward_goes_through_it_once(heads):
    model, plain = Reversible(), Reversible()
    top = nn.Linear(4, 4)
    named = gb.SharedParameters([model.stem, model.body, top], measure=top)
    balancer = gb.Balancer(gb.MGDA(normalization="l2"), named, heads=heads)
    report = balancer.backward(model.losses(top(model.trunk())))
    losses = plain.losses(top(plain.trunk(plain=True)))
    sum(w * loss for w, loss in zip(report.weights.tolist(), losses, strict=True)).backward()
    assert min(report.weights) > 0
    for part in ("stem", "body"):
        for name, gradient in grads(getattr(plain, part)).items():
            torch.testing.assert_close(grads(getattr(model, part))[name], gradient)


def test_a_backward_inside_may_ask_for_gradients():
    model, plain = Reversible(), Reversible()
    z = plain.trunk(plain=True)
    expected = gb.Balancer(gb.MGDA()).measure(plain.losses(2 * z))
    found = gb.Balancer(gb.MGDA()).backward(model.losses(Implicit.apply(model.trunk(plain=True))))
    assert found.gram == pytest.approx(expected.gram)


class Buffered(torch.autograd.Function):
    """A linear map that keeps a buffer for each of its gradients, as CUDA-graphed callables do."""

    buffers = torch.zeros(4, 3), torch.zeros(2, 3)

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        to_x, to_weight = Buffered.buffers
        to_x.copy_(gradient @ weight)
        to_weight.copy_(gradient.T @ x)
        return to_x.detach(), to_weight.detach()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("source", ["rows", "representation", "micro-batches"])
def test_buffers_that_a_backward_uses_again_are_copied(source, transposed):
    weight = nn.Parameter(torch.randn(3, 2) if transposed else torch.randn(2, 3))
    inputs = nn.Parameter(torch.randn(4, 3))

    def losses(function):
        x = inputs * 1.0
        y = function(x, weight.T if transposed else weight)
        return x, [y[:, i].sub(i).square().mean() for i in range(2)]

    def report(function):
        x, found = losses(function)
        weight.grad = inputs.grad = None
        if source == "representation":
            balancer = gb.Balancer(gb.MGDA(), gb.Representation())
            return balancer.backward(found, representation=x)
        balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters([weight, inputs]))
        if source == "micro-batches":
            balancer.accumulate(losses(function)[1])
        return balancer.backward(found)

    expected = report(lambda x, w: x @ w.T)
    written = inputs.grad.numpy().copy(), weight.grad.numpy().copy()
    found = report(Buffered.apply)
    assert found.gram == pytest.approx(expected.gram, rel=1e-5)
    if source != "representation":
        assert written[0] == pytest.approx(inputs.grad.numpy(), rel=1e-4)
    Buffered.buffers[1].fill_(np.nan)
    assert written[1] == pytest.approx(weight.grad.numpy(), rel=1e-4)
