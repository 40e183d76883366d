"""`Balancer.after_step` and `Balancer.end_epoch`: what some solvers are told beyond a step."""

from typing import ClassVar, final

import pytest
import torch

import gradbalance as gb
from tests.models import Net


@final
class Listener(gb.StatelessSolver, gb.AfterStep, gb.EndEpoch):
    needs = "losses"
    weighs = "losses"
    heard: ClassVar[list[object]] = []

    def solve(self, problem):
        return gb.Uniform().solve(problem)

    def after_step(self, losses):
        self.heard.append(dict(losses))

    def end_epoch(self):
        self.heard.append("end")


@pytest.fixture
def balancer():
    Listener.heard.clear()
    return gb.Balancer(Listener(), tasks=["a", "b"])


@pytest.mark.parametrize(
    "losses",
    [
        {"b": 2.0, "a": torch.tensor(1.0)},
        [1, torch.tensor([2.0], dtype=torch.float64)],
        torch.tensor([1.0, 2.0], requires_grad=True),
    ],
)
def test_every_form_of_losses_arrives_as_floats_by_name(balancer, losses):
    balancer.after_step(losses)
    assert balancer.solver.heard == [{"a": 1.0, "b": 2.0}]
    assert all(type(value) is float for value in balancer.solver.heard[0].values())


def test_numbers_keep_their_precision(balancer):
    balancer.after_step({"a": 0.1})
    assert balancer.solver.heard == [{"a": 0.1}]


def test_the_end_of_an_epoch_arrives(balancer):
    balancer.end_epoch()
    assert balancer.solver.heard == ["end"]


@pytest.mark.parametrize(
    ("losses", "match"),
    [
        ({"c": 1.0}, "unknown tasks"),
        ({"a": None}, "no task"),
        ([1.0], "found 1 losses for the 2 tasks"),
        ({"a": "1"}, "task 'a' must be a number"),
        ({"a": torch.ones(2)}, "task 'a' must be a number"),
        ({"a": 1.0, "b": float("nan")}, "task 'b' after the step is not finite"),
    ],
)
def test_losses_that_cannot_be_used_are_refused(balancer, losses, match):
    with pytest.raises(ValueError, match=match):
        balancer.after_step(losses)
    assert balancer.solver.heard == []


def test_a_loss_that_is_not_finite_is_passed_on_where_such_tasks_are_skipped():
    Listener.heard.clear()
    gb.Balancer(Listener(), tasks=["a"], nonfinite="skip").after_step({"a": float("inf")})
    assert Listener.heard == [{"a": float("inf")}]


def test_after_step_before_any_step_is_refused():
    with pytest.raises(ValueError, match=r"backward\(losses\) first"):
        gb.Balancer(Listener()).after_step([1.0])


def test_solvers_that_need_no_hook_ignore_them():
    model = Net()
    balancer = gb.Balancer(gb.MGDA())
    balancer.backward(model.losses())
    before = balancer.get_extra_state()
    balancer.after_step(model.losses())
    balancer.after_step("not even losses")
    balancer.end_epoch()
    assert balancer.get_extra_state() == before
