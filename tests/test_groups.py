"""Groups of parameters, each balanced for itself."""

import numpy as np
import pytest
import torch

import gradbalance as gb
from gradbalance.state import decode, encode
from tests.models import Net, grads


def groups_of(model):
    return gb.SharedParameters({"first": model.trunk[0], "last": model.trunk[2]})


def grouped(model, solver=None, **options):
    return gb.Balancer(solver or gb.MGDA(), groups_of(model), **options)


def rows_over(module, losses):
    parameters = list(module.parameters())
    return np.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(x, parameters, retain_graph=True)])
            for x in losses.values()
        ]
    )


def test_every_group_gets_the_weights_of_its_own_gramian():
    model = Net()
    rows = {
        name: rows_over(model.trunk[i], model.losses()) for name, i in (("first", 0), ("last", 2))
    }
    report = grouped(model).backward(model.losses())
    for name, module in (("first", model.trunk[0]), ("last", model.trunk[2])):
        weights = gb.MGDA().solve(gb.Problem.of(rows[name] @ rows[name].T)).weights
        np.testing.assert_allclose(report.groups[name].weights, weights, rtol=1e-9)
        found = torch.cat([p.grad.flatten() for p in module.parameters()])
        np.testing.assert_allclose(found, weights @ rows[name], rtol=1e-9, atol=1e-14)
    assert report.groups["first"].weights[0] != report.groups["last"].weights[0]


def test_heads_keep_their_raw_gradients():
    model, other = Net(), Net()
    grouped(model).backward(model.losses())
    sum(other.losses().values()).backward()
    for name, gradient in grads(model).items():
        if name.startswith("heads"):
            assert torch.allclose(gradient, grads(other)[name])


def test_the_report_is_of_all_parameters_together():
    model = Net()
    report = grouped(model).measure(model.losses())
    whole = gb.Balancer(gb.MGDA(), gb.SharedParameters(model.trunk)).measure(model.losses())
    np.testing.assert_allclose(report.gram, whole.gram)
    assert np.isnan(report.weights).all()
    parts = report.groups.values()
    np.testing.assert_allclose(report.descent, sum(part.gram @ part.weights for part in parts))
    assert (report.descent > 0).all()
    assert report.status is gb.Status.CONVERGED
    assert report.certificate == max(part.certificate for part in parts)
    assert "weight/first" in str(report).splitlines()[1]
    entries = report.as_dict()
    assert entries["weight/last/task0"] == report.groups["last"].weights[0]
    assert "weight/task0" not in entries


def test_a_task_that_misses_a_group_is_solved_around_there():
    model = Net()
    losses = model.losses()
    losses["task1"] = model.heads[1](model.trunk[2](torch.ones(1, 6).double())).square().sum()
    report = grouped(model).backward(losses)
    assert report.groups["first"].left_out == {"task1": "zero gradient"}
    assert report.groups["last"].left_out == {}
    assert report.left_out == {}
    assert report.groups["first"].weights[1] == 0.0


def test_a_task_that_is_not_finite_in_one_group_is_left_out_of_all():
    model = Net()
    losses = model.losses()
    z = model.trunk[2].weight.sum() * 0
    losses["task1"] = losses["task1"] + z.sqrt()  # finite, with an infinite gradient
    report = grouped(model, nonfinite="skip").backward(losses)
    assert report.left_out == {"task1": "not finite"}
    assert report.groups["first"].left_out == {"task1": "not finite"}
    assert grads(model)["heads.1.weight"] is None
    assert all(torch.isfinite(p.grad).all() for p in model.trunk.parameters())


def test_every_group_has_a_state_of_its_own_that_resumes():
    def step(balancer, model):
        model.zero_grad()
        report = balancer.backward(model.losses())
        return [part.weights.tolist() for part in report.groups.values()]

    model, solver = Net(), gb.CRMOGM(gb.MGDA(), momentum=0.5)
    balancer = grouped(model, solver, every=2)
    step(balancer, model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    resumed = grouped(model, solver, every=2)
    resumed.load_state_dict(balancer.state_dict())
    for _ in range(3):
        first, last = step(balancer, model)
        assert [first, last] == step(resumed, model)
        assert first != last


def test_reused_weights_give_the_same_gradients():
    model = Net()
    balancer = grouped(model, every=2)
    balancer.backward(model.losses())
    expected = grads(model)
    model.zero_grad()
    report = balancer.backward(model.losses())
    assert report.status is gb.Status.REUSED
    for name, gradient in grads(model).items():
        assert torch.allclose(gradient, expected[name], rtol=1e-12, atol=1e-15), name


def test_a_group_that_no_loss_reaches_is_left_alone():
    model, unused = Net(), torch.nn.Linear(2, 2)
    source = gb.SharedParameters({"trunk": model.trunk, "unused": unused})
    for _ in range(2):
        report = gb.Balancer(gb.MGDA(), source, every=2).backward(model.losses())
    assert set(report.groups) == {"trunk"}
    assert unused.weight.grad is None


def test_errors():
    model = Net()
    with pytest.raises(ValueError, match="must not overlap"):
        gb.SharedParameters({"all": model.trunk, "last": model.trunk[2]})
    with pytest.raises(ValueError, match="found a mapping of groups"):
        gb.SharedParameters({"all": model.trunk}, measure=model.trunk[2])
    for groups in ({}, {"": model.trunk}):
        with pytest.raises(ValueError, match="groups must have names"):
            gb.SharedParameters(groups)
    with pytest.raises(ValueError, match="one weight a group"):
        grouped(model, gb.GradNorm())
    balancer = grouped(model)
    state = gb.Balancer(gb.MGDA(), gb.SharedParameters(model.trunk)).state_dict()
    with pytest.raises(ValueError, match="of the groups"):
        balancer.load_state_dict(state)


def test_a_state_that_one_group_refuses_changes_none():
    model = Net()
    source, other = (groups_of(model) for _ in range(2))
    balancer = gb.Balancer(gb.PCGrad(), source)
    saved = gb.Balancer(gb.PCGrad(seed=5), other).state_dict()
    state = decode(saved["_extra_state"])
    state["memory"]["solvers"][-1] = {"nonsense": 1}
    saved["_extra_state"] = encode(state, 1 << 16)
    before = balancer.get_extra_state()
    with pytest.raises(ValueError, match="state"):
        balancer.load_state_dict(saved)
    assert torch.equal(balancer.get_extra_state(), before)
