"""The options of Balancer: forms of losses, heads, scale, missing tasks, zero and odd gradients."""

import numpy as np
import pytest
import torch

import gradbalance as gb
from tests.models import HandModel, Net, grads

SOURCES = {
    "rows": lambda model: gb.SharedParameters(model.trunk),
    "measured": lambda model: gb.SharedParameters(model.trunk, measure=model.trunk[-1]),
    "representation": lambda model: gb.Representation(model.trunk),
}
sources = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())


def mgda(model, source=None, **options):
    return gb.Balancer(gb.MGDA(), source or gb.SharedParameters(model.trunk), **options)


def test_mapping_sequence_and_tensor_agree():
    model = Net()
    losses = list(model.losses().values())
    forms = [model.losses(), losses, tuple(losses), torch.stack(losses)]
    reports = [mgda(model).measure(form) for form in forms]
    assert reports[0].names == ("task0", "task1", "task2")
    assert reports[1].names == ("0", "1", "2")
    for report in reports:
        np.testing.assert_allclose(report.weights, reports[0].weights, rtol=1e-12)


def test_losses_of_one_element_need_no_squeeze():
    model = Net()
    report = mgda(model).backward({n: loss.reshape(1, 1) for n, loss in model.losses().items()})
    assert report.weights == pytest.approx(mgda(model).measure(model.losses()).weights)


@pytest.mark.parametrize("form", ["left out", "none", "sequence"])
@sources
def test_a_missing_task_is_solved_around(source, form):
    model, other = Net(), Net()
    balancer = mgda(model, source(model), tasks=["task0", "task1", "task2"])
    alone = mgda(other, source(other))
    losses = model.losses()
    if form == "left out":
        del losses["task1"]
    else:
        losses["task1"] = None
    report = balancer.backward(list(losses.values()) if form == "sequence" else losses)
    pair = other.losses()
    del pair["task1"]
    assert report.left_out == {"task1": "absent"}
    assert report.weights[1] == 0.0
    assert np.isnan(report.losses[1])
    assert np.isnan(report.gram[1]).all()
    assert report.weights[[0, 2]] == pytest.approx(alone.measure(pair).weights)
    assert grads(model)["heads.1.weight"] is None
    assert grads(model)["heads.0.weight"] is not None


def test_a_missing_task_keeps_its_state():
    model = Net()
    balancer = gb.Balancer(gb.GradNorm(lr=0.1), gb.SharedParameters(model.trunk))
    for _ in range(3):
        balancer.backward(model.losses())
    before = balancer.solver.state_dict()["tasks"]["task1"]
    losses = model.losses()
    del losses["task1"]
    balancer.backward(losses)
    assert balancer.solver.state_dict()["tasks"]["task1"] == before


@sources
def test_a_zero_gradient_does_not_freeze_the_others(source):
    model = Net()
    with torch.no_grad():  # a zero-initialised head: its gradient to the trunk is exactly zero
        model.heads[1].weight.zero_()
    report = mgda(model, source(model)).backward(model.losses())
    assert report.left_out == {"task1": "zero gradient"}
    assert report.status is gb.Status.CONVERGED
    assert report.weights[1] == 0.0
    assert model.trunk[-1].weight.grad.norm() > 0
    assert model.heads[1].weight.grad.norm() > 0  # its head still learns


@sources
def test_a_zero_gradient_taken_strictly_gives_a_zero_direction(source):
    model = Net()
    with torch.no_grad():
        model.heads[1].weight.zero_()
    report = mgda(model, source(model), zero_gradients="strict").backward(model.losses())
    assert report.weights.tolist() == [0.0, 1.0, 0.0]
    assert report.status is gb.Status.STATIONARY
    assert model.trunk[-1].weight.grad.norm() == 0


def test_solvers_that_weigh_losses_take_zero_gradients_as_they_are():
    model = Net()
    with torch.no_grad():
        model.heads[1].weight.zero_()
    balancer = gb.Balancer(gb.GradNorm(), gb.SharedParameters(model.trunk))
    report = balancer.backward(model.losses())
    assert report.left_out == {}
    assert model.heads[1].weight.grad.norm() > 0


def test_all_gradients_zero_is_an_ordinary_step():
    x = torch.zeros(2, requires_grad=True)
    report = gb.Balancer(gb.MGDA()).backward([(x**2).sum(), (x**4).sum()])
    assert report.status is gb.Status.STATIONARY
    assert x.grad.tolist() == [0.0, 0.0]


def test_a_stationary_point_is_an_ordinary_step():
    x = torch.ones(2, requires_grad=True)
    report = gb.Balancer(gb.MGDA()).backward([x.sum(), -2 * x.sum()])
    assert report.status is gb.Status.STATIONARY
    assert x.grad.tolist() == [0.0, 0.0]
    np.testing.assert_allclose(report.weights, [2 / 3, 1 / 3])


@sources
@pytest.mark.parametrize("solver", [gb.MGDA, gb.Uniform])
@pytest.mark.parametrize("heads", ["raw", "weighted"])
def test_non_finite_tasks_are_skipped_on_request(source, solver, heads):
    model, other = Net(), Net()
    balancer = gb.Balancer(solver(), source(model), nonfinite="skip", heads=heads)
    losses = model.losses()
    losses["task1"] = losses["task1"] * float("nan")
    report = balancer.backward(losses)
    assert report.left_out == {"task1": "not finite"}
    assert report.weights[1] == 0.0
    healthy = gb.Balancer(solver(), source(other), heads=heads)
    pair = other.losses()
    del pair["task1"]
    expected = healthy.backward(pair)
    assert report.weights[[0, 2]] == pytest.approx(expected.weights)
    for name, gradient in grads(other).items():
        if gradient is None:
            assert grads(model)[name] is None
        else:
            torch.testing.assert_close(grads(model)[name], gradient)


def test_a_gradient_that_is_not_finite_under_a_finite_loss():
    x = torch.zeros(2, requires_grad=True)
    losses = {"root": x.square().sum().sqrt(), "plain": (x - 1).square().sum()}
    with pytest.raises(ValueError, match="gradient of task 'root' is not finite"):
        gb.Balancer(gb.MGDA()).backward(losses)
    assert x.grad is None
    losses = {"root": x.square().sum().sqrt(), "plain": (x - 1).square().sum()}
    report = gb.Balancer(gb.MGDA(), nonfinite="skip").backward(losses)
    assert x.grad.tolist() == [-2.0, -2.0]
    assert report.left_out == {"root": "not finite"}


def test_all_tasks_skipped_writes_nothing_and_keeps_the_state():
    model = Net()
    balancer = gb.Balancer(gb.PCGrad(), nonfinite="skip")
    report = balancer.backward({n: x * float("inf") for n, x in model.losses().items()})
    assert report.status is None
    assert set(grads(model).values()) == {None}
    assert balancer.solver.state_dict()["num_steps"] == 0
    assert "no task took part" in str(report)


@pytest.mark.parametrize("solver", [gb.Uniform, gb.MGDA, gb.PCGrad, gb.GradNorm])
@sources
def test_scale(solver, source):
    model = Net()
    total = gb.Balancer(solver(), source(model), scale="sum").measure(model.losses())
    assert total.weights.sum() == pytest.approx(3.0)
    norm = gb.Balancer(solver(), source(model), scale="norm").measure(model.losses())
    assert norm.weights @ norm.gram @ norm.weights == pytest.approx(norm.gram.sum())
    plain = gb.Balancer(solver(), source(model)).measure(model.losses())
    np.testing.assert_allclose(
        norm.weights / norm.weights.sum(), plain.weights / plain.weights.sum()
    )


def test_the_reported_weights_are_those_that_acted():
    model = HandModel()
    balancer = gb.Balancer(gb.PCGrad(), scale="norm")
    report = balancer.backward(model.losses())
    rows = torch.tensor(model.ROWS_W, dtype=torch.float64)
    expected = torch.einsum("t,tij->ij", torch.from_numpy(report.weights), rows)
    torch.testing.assert_close(model.trunk.weight.grad, expected)


def test_heads_default_to_what_the_solver_weighs():
    assert gb.Balancer(gb.MGDA()).heads == "raw"
    assert gb.Balancer(gb.PCGrad()).heads == "raw"
    assert gb.Balancer(gb.GradNorm()).heads == "weighted"
    assert gb.Balancer(gb.Uniform()).heads == "weighted"


def test_a_balancer_registers_nothing():
    model = Net()
    model.balancer = mgda(model)
    before = {name for name, _ in Net().named_parameters()}
    assert {name for name, _ in model.named_parameters()} == before
    assert list(model.balancer.buffers()) == []


@pytest.mark.parametrize("solver", [gb.Uniform, gb.MGDA, gb.PCGrad, gb.GradNorm])
def test_training_lowers_every_loss(solver):
    # All tasks can be fitted at once, so that every method must get there.
    torch.manual_seed(0)
    target = torch.nn.Linear(4, 3).requires_grad_(False)
    balancer = gb.Balancer(solver())
    history = gb.History()
    trunk = torch.nn.Linear(4, 8)
    heads = torch.nn.ModuleList(torch.nn.Linear(8, 1) for _ in range(3))
    optimizer = torch.optim.SGD([*trunk.parameters(), *heads.parameters()], lr=0.05)
    for _ in range(150):
        x = torch.randn(32, 4)
        y = target(x)
        z = trunk(x)
        losses = [(head(z)[:, 0] - y[:, i]).square().mean() for i, head in enumerate(heads)]
        optimizer.zero_grad()
        history.append(balancer.backward(losses))
        optimizer.step()
    assert (history.losses[-20:].mean(0) < 0.2 * history.losses[:5].mean(0)).all()
