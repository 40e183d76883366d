"""Each source against arithmetic written by hand, and against one another where they must agree."""

import numpy as np
import pytest
import torch

import gradbalance as gb
from tests.models import HandModel, Net

SOURCES = {
    "found": lambda model: gb.SharedParameters(),
    "module": lambda model: gb.SharedParameters(model.trunk),
    "parameters": lambda model: gb.SharedParameters(model.trunk.parameters()),
    "measured": lambda model: gb.SharedParameters(model.trunk, measure=model.trunk.weight),
    "sketched": lambda model: gb.SharedParameters(sketch=5),
    "together": lambda model: gb.SharedParameters(model.trunk, chunk_size=2),
    "representation": lambda model: gb.Representation(model.trunk),
}
WEIGHTS = {"linear": 0.25, "square": 3.0}

sources = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())


@sources
def test_gramian_by_hand(source):
    model = HandModel()
    report = gb.Balancer(gb.Uniform(), source(model)).backward(model.losses())
    over_z = isinstance(source(model), gb.Representation)
    np.testing.assert_allclose(report.gram, model.GRAM_Z if over_z else model.GRAM_W)
    np.testing.assert_allclose(report.losses, [4.0, 4.0])


@sources
@pytest.mark.parametrize("heads", ["raw", "weighted"])
def test_gradients_by_hand(source, heads):
    model = HandModel()
    balancer = gb.Balancer(gb.Uniform(preferences=WEIGHTS), source(model), heads=heads)
    balancer.backward(model.losses())
    rows = torch.tensor(model.ROWS_W, dtype=torch.float64)
    torch.testing.assert_close(model.trunk.weight.grad, 0.25 * rows[0] + 3.0 * rows[1])
    first, second = (1.0, 1.0) if heads == "raw" else (0.25, 3.0)
    assert model.a.grad.tolist() == [first * value for value in model.HEAD_A]
    assert model.b.grad.tolist() == [second * value for value in model.HEAD_B]


@sources
def test_mgda_by_hand(source):
    # W: G = [[25, 10], [10, 20]]: u = (20 - 10)/(25 + 20 - 20) = .4; Z: (4 - 2)/(5 + 4 - 4) = .4
    model = HandModel()
    report = gb.Balancer(gb.MGDA(), source(model)).backward(model.losses())
    np.testing.assert_allclose(report.weights, [0.4, 0.6])
    rows = torch.tensor(model.ROWS_W, dtype=torch.float64)
    torch.testing.assert_close(model.trunk.weight.grad, 0.4 * rows[0] + 0.6 * rows[1])
    assert model.a.grad.tolist() == list(model.HEAD_A)  # heads keep their raw gradients


def test_losses_only_by_hand():
    model = HandModel()
    report = gb.Balancer(gb.Uniform(preferences=WEIGHTS)).backward(model.losses())
    rows = torch.tensor(model.ROWS_W, dtype=torch.float64)
    torch.testing.assert_close(model.trunk.weight.grad, 0.25 * rows[0] + 3.0 * rows[1])
    assert model.b.grad.tolist() == [24.0]
    assert report.gram is None


def test_the_measured_subset_is_the_gramian_of_the_subset():
    model = Net()
    source = gb.SharedParameters(measure=model.trunk[-1])
    report = gb.Balancer(gb.MGDA(), source).backward(model.losses())
    other = Net()
    rows = [
        torch.cat(
            [
                g.flatten()
                for g in torch.autograd.grad(
                    loss, list(other.trunk[-1].parameters()), retain_graph=True
                )
            ]
        )
        for loss in other.losses().values()
    ]
    jac = torch.stack(rows).numpy()
    np.testing.assert_allclose(report.gram, jac @ jac.T, rtol=1e-12)
    # One weighted backward does the rest, over the whole trunk.
    weighted = sum(
        w * loss for w, loss in zip(report.weights, other.losses().values(), strict=True)
    )
    expected = torch.autograd.grad(weighted, list(other.trunk.parameters()))
    for parameter, gradient in zip(model.trunk.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_representation_reaches_the_trunk_as_the_weighted_sum_does():
    model = Net()
    report = gb.Balancer(gb.MGDA(), gb.Representation(model.trunk)).backward(model.losses())
    other = Net()
    weighted = sum(
        w * loss for w, loss in zip(report.weights, other.losses().values(), strict=True)
    )
    expected = torch.autograd.grad(weighted, list(other.trunk.parameters()))
    for parameter, gradient in zip(model.trunk.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@sources
def test_lower_precisions(source, dtype):
    model = HandModel(dtype)
    report = gb.Balancer(gb.MGDA(), source(model)).backward(model.losses())
    # Where one weighted backward writes all, the weights that act have passed through the losses.
    np.testing.assert_allclose(report.weights, [0.4, 0.6], rtol=torch.finfo(dtype).eps)
    assert model.trunk.weight.grad.dtype == dtype


def test_a_gramian_of_spread_rows_is_summed_beyond_float32():
    x = torch.zeros(3, requires_grad=True)
    big, small = torch.tensor([1e4, 0.0, 1.0]), torch.tensor([0.0, 1e-4, -1e-4])
    report = gb.Balancer(gb.MGDA(), gb.SharedParameters([x])).backward([big @ x, small @ x])
    np.testing.assert_allclose(report.gram[0], [1e8 + 1, -1e-4], rtol=1e-7)


@sources
def test_under_autocast(source):
    # Exact in bfloat16: all numbers of the model; not exact: the weights and what they multiply.
    model = HandModel(torch.float32)
    balancer = gb.Balancer(gb.MGDA(), source(model))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = {name: loss.float() for name, loss in model.losses().items()}
        report = balancer.backward(losses)
    np.testing.assert_allclose(report.weights, [0.4, 0.6], rtol=1e-6)
    rows = torch.tensor(model.ROWS_W)
    expected = 0.4 * rows[0] + 0.6 * rows[1]
    # Where the weights act on the loss or on Z, the trunk's own backward is in bfloat16.
    loose = source in [SOURCES[name] for name in ("measured", "sketched", "representation")]
    torch.testing.assert_close(
        model.trunk.weight.grad, expected, rtol=1e-2 if loose else 1e-6, atol=1e-6
    )
    assert model.trunk.weight.grad.dtype == torch.float32
