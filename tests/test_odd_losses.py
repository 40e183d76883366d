"""Losses that are exactly zero, huge or subnormal: a documented policy instead of an end."""

import numpy as np
import pytest
import torch
from torch import nn

import gradbalance as gb
from tests.contract.table import CONTRACTS
from tests.models import Net, grads

# Methods that take logarithms or inverses of the losses.
LEAVE_ZEROS_OUT = {
    "UW": gb.UW,
    "IMTLL": gb.IMTLL,
    "GLS": gb.GLS,
    "SI": gb.SI,
    "FAMO": gb.FAMO,
    "DBMTL": gb.DBMTL,
    "MGDA-loss": lambda: gb.MGDA(normalization="loss"),
    "MGDA-loss+": lambda: gb.MGDA(normalization="loss+"),
    "CRMOGM": lambda: gb.CRMOGM(gb.SI()),
}
leaving_out = pytest.mark.parametrize("make", LEAVE_ZEROS_OUT.values(), ids=LEAVE_ZEROS_OUT.keys())
every_solver = pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS.keys())


def hinged(model, margin):
    """The losses of a net, the last one through a hinge: exactly zero for a low margin."""
    *others, last = model.losses().values()
    return {"a": others[0], "b": others[1], "hinge": torch.relu(last + margin)}


def take(balancer, losses):
    report = balancer.backward(losses)
    with torch.no_grad():
        balancer.after_step({name: loss * 0.9 for name, loss in losses.items()})
    return report


@leaving_out
def test_a_loss_of_zero_leaves_its_task_out_of_one_step(make):
    model, other = Net(), Net()
    balancer, without = gb.Balancer(make()), gb.Balancer(make())
    for margin in (1.0, -100.0, 1.0):
        for net in (model, other):
            net.zero_grad()
        report = take(balancer, hinged(model, margin))
        losses = hinged(other, margin)
        if margin < 0:
            losses["hinge"] = None
        expected = without.backward(losses)
        with torch.no_grad():
            known = {name: loss * 0.9 for name, loss in losses.items() if loss is not None}
            without.after_step(known)
        assert report.weights.tolist() == expected.weights.tolist()
        for name, gradient in grads(model).items():
            found = grads(other)[name]
            assert (gradient is None) == (found is None), name
            assert gradient is None or torch.equal(gradient, found), name
        if margin < 0:
            assert report.left_out == {"hinge": "zero loss"}
            assert "(zero loss)" in str(report)
    assert torch.equal(balancer.get_extra_state(), without.get_extra_state())


@leaving_out
def test_losses_that_are_all_zero_write_nothing(make):
    parameter = nn.Parameter(torch.ones(3))
    balancer = gb.Balancer(make())
    report = balancer.backward([torch.relu(parameter - 2).sum(), torch.relu(parameter - 3).sum()])
    assert report.status is None
    assert report.weights.tolist() == [0.0, 0.0]
    assert parameter.grad is None or parameter.grad.tolist() == [0.0] * 3


def test_a_norm_that_is_zero_is_left_out_though_its_gradient_is_not_finite():
    parameter = nn.Parameter(torch.zeros(2))
    losses = [parameter.square().sum().sqrt(), (parameter - 1).square().sum()]
    report = gb.Balancer(gb.SI()).backward(losses)
    assert report.left_out == {"0": "zero loss"}
    assert parameter.grad.tolist() == [-1.0, -1.0]


@every_solver
@pytest.mark.parametrize("loss", [1e300, 1e280, 5e-324, 1e-310, 1e-300])
def test_losses_of_any_size_leave_weights_and_state_finite(contract, loss):
    balancer = gb.Balancer(contract.make(), gb.SharedParameters())
    for sizes in ([loss, 1.0], [1.0, loss], [loss, loss], [1.0, 1.0]):
        parameter = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        rows = torch.tensor([[1.0, 0.0, 1.0], [0.0, 2.0, 1.0]], dtype=torch.float64)
        losses = {n: row @ parameter + size for n, row, size in zip("ab", rows, sizes, strict=True)}
        report = take(balancer, losses)
        assert np.isfinite(report.weights).all(), report
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()
    restored = gb.Balancer(contract.make(), gb.SharedParameters())
    restored.load_state_dict(balancer.state_dict())
    assert torch.equal(restored.get_extra_state(), balancer.get_extra_state())


@every_solver
def test_a_state_is_carried_over_to_a_run_with_one_task_more(contract):
    model = Net()
    balancer = gb.Balancer(contract.make(), gb.SharedParameters(model.trunk), tasks=["b", "a"])
    first, second, third = model.losses().values()
    take(balancer, {"b": second, "a": first})
    grown = gb.Balancer(contract.make(), gb.SharedParameters(model.trunk), tasks=["a", "b", "c"])
    grown.set_extra_state(balancer.get_extra_state())
    assert grown.tasks == ("a", "b", "c")
    alone = gb.Balancer(contract.make(), gb.SharedParameters(model.trunk), tasks=["a", "b"])
    alone.set_extra_state(balancer.get_extra_state())
    first, second, third = model.losses().values()
    report = grown.backward({"a": first, "b": second})
    first, second, third = model.losses().values()
    expected = alone.backward({"a": first, "b": second})
    assert report.weights[:2].tolist() == expected.weights.tolist()
    first, second, third = model.losses().values()
    with torch.no_grad():
        grown.after_step({"a": first, "b": second})
    assert take(grown, {"a": first, "b": second, "c": third}).names == ("a", "b", "c")


def test_a_state_of_more_tasks_is_refused():
    model = Net()
    balancer = gb.Balancer(gb.GradNorm(), tasks=["a", "b", "c"])
    balancer.backward(dict(zip("abc", model.losses().values(), strict=True)))
    fewer = gb.Balancer(gb.GradNorm(), tasks=["a", "b"])
    before = fewer.get_extra_state()
    with pytest.raises(ValueError, match=r"but not lack \['c'\]"):
        fewer.set_extra_state(balancer.get_extra_state())
    assert torch.equal(fewer.get_extra_state(), before)


@pytest.mark.parametrize("name", list(CONTRACTS))
def test_a_state_of_64_tasks_with_long_names_fits(name):
    tasks = [f"ein größerer, recht langer Name: {i}" for i in range(64)]
    parameter = nn.Parameter(torch.ones(80))
    balancer = gb.Balancer(CONTRACTS[name].make(), gb.SharedParameters(), tasks=tasks)
    rows = torch.randn(64, 80, generator=torch.Generator().manual_seed(0))
    length = len(balancer.get_extra_state())
    take(balancer, {t: row @ parameter + 100 for t, row in zip(tasks, rows, strict=True)})
    assert len(balancer.get_extra_state()) == length


def test_neither_a_skipped_step_nor_dropped_micro_batches_fix_the_tasks():
    parameter = nn.Parameter(torch.ones(2))
    balancer = gb.Balancer(gb.UPGrad(), gb.SharedParameters(parameter))
    (0.0 * balancer({"a": parameter.sum(), "b": parameter.square().sum()})).backward()
    assert balancer.report.status is gb.Status.SKIPPED
    assert balancer.tasks is None
    balancer.accumulate({"a": parameter.sum(), "b": parameter.square().sum()})
    assert balancer.tasks is None
    with pytest.raises(ValueError, match="unknown tasks"):
        balancer.accumulate({"c": parameter.sum()})
    balancer.set_extra_state(gb.Balancer(gb.UPGrad()).get_extra_state())  # drops them
    assert balancer.backward({"c": parameter.sum(), "d": parameter.square().sum()}).names == (
        "c",
        "d",
    )


def test_famo_takes_zero_where_its_bound_is_lower():
    balancer = gb.Balancer(gb.FAMO(min_losses=[-1.0, 0.0]))
    parameter = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    report = balancer.backward([parameter[0] * 1.0, parameter[1] + 1.0])
    assert report.left_out == {}
    assert report.weights.tolist() == [0.5, 0.5]  # both are 1 above their bounds


def test_two_losses_of_other_tasks_before_the_first_step_are_refused():
    parameter = nn.Parameter(torch.ones(2))
    balancer = gb.Balancer(gb.UPGrad(), gb.SharedParameters(parameter))
    first = balancer({"a": parameter.sum(), "b": parameter.square().sum()})
    second = balancer({"b": parameter.sum(), "c": parameter.square().sum()})
    first.backward()
    before = parameter.grad.clone()
    with pytest.raises(ValueError, match=r"fixed as \['a', 'b'\] by another balanced loss"):
        second.backward()
    assert balancer.tasks == ("a", "b")
    assert torch.equal(parameter.grad, before)
