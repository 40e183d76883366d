"""What is written, and how: as `Tensor.backward` does, hooks included."""

import pytest
import torch

import gradbalance as gb
from tests.models import Net, grads

SOURCES = {
    "losses": lambda model: gb.LossesOnly(),
    "rows": lambda model: gb.SharedParameters(model.trunk),
    "found": lambda model: gb.SharedParameters(),
    "measured": lambda model: gb.SharedParameters(model.trunk, measure=model.trunk[-1]),
    "sketched": lambda model: gb.SharedParameters(model.trunk, sketch=211),
    "together": lambda model: gb.SharedParameters(chunk_size=2),
    "representation": lambda model: gb.Representation(model.trunk),
}

sources = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())


def assert_equal_gradients(model, expected):
    for name, gradient in grads(expected).items():
        found = grads(model)[name]
        if gradient is None:
            assert found is None, name
        else:
            torch.testing.assert_close(found, gradient)


@sources
def test_gradients_are_added_to_those_present(source):
    model, plain = Net(), Net()
    balancer = gb.Balancer(gb.Uniform(), source(model))
    for _ in range(3):
        balancer.backward(model.losses())
        sum(plain.losses().values()).backward()
    assert_equal_gradients(model, plain)


@sources
def test_hooks_fire_once_a_step_as_in_backward(source):
    model, plain = Net(), Net()
    fired: tuple[list[str], list[str]] = ([], [])
    for net, log in zip((model, plain), fired, strict=True):
        for name, parameter in net.named_parameters():
            parameter.register_hook(lambda g: 3 * g)
            parameter.register_post_accumulate_grad_hook(
                lambda p, name=name, log=log: log.append(name)
            )
    report = gb.Balancer(gb.Uniform(), source(model)).backward(model.losses())
    sum(plain.losses().values()).backward()
    assert_equal_gradients(model, plain)
    assert sorted(fired[0]) == sorted(fired[1])
    assert report.weights.tolist() == [1.0, 1.0, 1.0]


@sources
def test_hooks_are_still_there_after_an_error(source):
    model = Net()
    calls = []
    model.trunk[0].weight.register_hook(lambda g: calls.append(1))
    balancer = gb.Balancer(gb.Uniform(), source(model))
    losses = model.losses()
    balancer.backward(losses)
    with pytest.raises(ValueError, match=r"freed|representation"):
        balancer.backward(losses)
    calls.clear()
    sum(model.losses().values()).backward()
    assert calls == [1]


@sources
def test_unused_and_frozen_parameters(source):
    model = Net()
    model.unused = torch.nn.Linear(2, 2).double()
    model.trunk[0].weight.requires_grad_(False)
    model.heads[1].bias.requires_grad_(False)
    gb.Balancer(gb.Uniform(), source(model)).backward(model.losses())
    missing = {name for name, gradient in grads(model).items() if gradient is None}
    assert missing == {"trunk.0.weight", "heads.1.bias", "unused.weight", "unused.bias"}


def test_a_parameter_that_some_tasks_do_not_use():
    trunk = torch.nn.Linear(2, 2, bias=False, dtype=torch.float64)
    extra = torch.nn.Linear(2, 2, bias=False, dtype=torch.float64)
    z = trunk(torch.ones(2, dtype=torch.float64))
    losses = [z.sum(), 2 * z.sum(), (z + extra(torch.ones(2, dtype=torch.float64))).sum()]
    losses.append(extra.weight.sum() * 5)
    report = gb.Balancer(gb.Uniform(), gb.SharedParameters()).backward(losses)
    assert report.gram[0, 3] == 0.0  # no parameter in common
    assert report.gram[2, 3] == pytest.approx(5 * 4)
    assert trunk.weight.grad.tolist() == [[4.0, 4.0]] * 2
    assert extra.weight.grad.tolist() == [[6.0, 6.0]] * 2


def test_a_parameter_that_no_loss_reaches_keeps_grad_none():
    model, apart = Net(), torch.nn.Linear(1, 1).double()
    source = gb.SharedParameters([model.trunk, apart])
    gb.Balancer(gb.MGDA(), source).backward(model.losses())
    assert model.trunk[0].weight.grad is not None
    assert apart.weight.grad is None


@sources
def test_a_head_of_two_tasks_gets_the_sum_of_their_gradients(source):
    model, plain = Net(num_tasks=2), Net(num_tasks=2)
    for net in (model, plain):
        net.heads.append(net.heads[0])
        net.y = torch.cat([net.y, 2 * net.y[:1]])
    gb.Balancer(gb.Uniform(), source(model)).backward(model.losses())
    sum(plain.losses().values()).backward()
    assert_equal_gradients(model, plain)


def test_a_head_whose_gradient_is_none():
    class Ignore(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z, weight):
            return z.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient, None

    model, ignored = Net(), torch.nn.Parameter(torch.ones(2))
    losses = model.losses()
    losses["task1"] = Ignore.apply(losses["task1"], ignored)
    gb.Balancer(gb.MGDA(), gb.SharedParameters(model.trunk)).backward(losses)
    assert ignored.grad is None
    assert model.heads[1].weight.grad is not None


@sources
def test_retain_graph(source):
    model, plain = Net(), Net()
    balancer = gb.Balancer(gb.Uniform(), source(model))
    losses = model.losses()
    balancer.backward(losses, retain_graph=True)
    balancer.backward(losses)
    for _ in range(2):
        sum(plain.losses().values()).backward()
    assert_equal_gradients(model, plain)


@sources
def test_measure_writes_nothing_and_leaves_the_graph(source):
    model = Net()
    balancer = gb.Balancer(gb.Uniform(), source(model))
    losses = model.losses()
    seen = balancer.measure(losses)
    assert set(grads(model).values()) == {None}
    report = balancer.backward(losses)
    assert str(seen) == str(report)


def test_newly_unfrozen_parameters_are_found():
    model = Net()
    model.trunk[0].requires_grad_(False)
    balancer = gb.Balancer(gb.MGDA())
    balancer.backward(model.losses())
    assert model.trunk[0].weight.grad is None
    model.trunk[0].requires_grad_(True)
    report = balancer.backward(model.losses())
    assert model.trunk[0].weight.grad is not None
    np_norm = sum(
        g.square().sum()
        for g in torch.autograd.grad(model.losses()["task0"], list(model.trunk.parameters()))
    ).sqrt()
    assert report.norms[0] == pytest.approx(np_norm.item())


def test_embeddings_with_sparse_gradients():
    table = torch.nn.Embedding(5, 3, sparse=True)
    z = table(torch.tensor([0, 2, 2]))
    gb.Balancer(gb.MGDA()).backward([z.sum(), (z * z).sum()])
    assert table.weight.grad.shape == (5, 3)


def test_an_input_with_a_gradient_is_not_shared():
    model = Net()
    model.x.requires_grad_(True)
    source = gb.SharedParameters()
    first = gb.Balancer(gb.MGDA(), source).backward(model.losses())
    model.x = model.x.detach()
    second = gb.Balancer(gb.MGDA()).backward(model.losses())
    assert first.gram == pytest.approx(second.gram)
    assert model.trunk[0].weight.grad is not None
