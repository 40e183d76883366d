"""`Balancer.after_step` and `Balancer.end_epoch`: what some solvers are told beyond a step."""

from typing import ClassVar, final

import numpy as np
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


@pytest.mark.parametrize("solver", [gb.MGDA, lambda: gb.CRMOGM(gb.MGDA())])
def test_solvers_that_need_no_hook_ignore_them(solver):
    model = Net()
    balancer = gb.Balancer(solver())
    balancer.backward(model.losses())
    before = balancer.get_extra_state()
    balancer.after_step(model.losses())
    balancer.after_step("not even losses")
    balancer.end_epoch()
    assert torch.equal(balancer.get_extra_state(), before)


class Run:
    """A loop that tells its balancer everything."""

    def __init__(self, solver, **options):
        self.model = Net()
        self.balancer = gb.Balancer(solver, **options)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)

    def backward(self):
        self.optimizer.zero_grad()
        report = self.balancer.backward(self.model.losses())
        self.optimizer.step()
        return report

    def after_step(self):
        with torch.no_grad():
            losses = self.model.losses()
        self.balancer.after_step(losses)
        return {name: loss.item() for name, loss in losses.items()}

    def epoch(self, num_steps):
        reports = [self.backward() for _ in range(num_steps)]
        self.balancer.end_epoch()
        return reports


def test_famo_trains_on_the_losses_before_and_after_each_step():
    run, alone, first = Run(gb.FAMO(lr=0.1)), gb.FAMO(lr=0.1), None
    for _ in range(30):
        report = run.backward()
        first = report.losses if first is None else first
        problem = gb.Problem.of(losses=report.losses, names=report.names)
        solution = alone.solve(problem)
        alone.update(problem, solution)
        alone.after_step(run.after_step())
        assert report.weights.tolist() == solution.weights.tolist()
    assert (report.losses < first).all()
    shares = report.weights * report.losses / (report.weights @ report.losses)
    assert abs(shares - 1 / 3).max() > 0.05  # it did learn


def test_famo_that_is_not_told_refuses_the_next_step_and_writes_nothing():
    run = Run(gb.FAMO())
    run.backward()
    run.optimizer.zero_grad()
    before = run.balancer.get_extra_state()
    with pytest.raises(ValueError, match=r"call balancer.after_step\(losses\)"):
        run.balancer.backward(run.model.losses())
    assert torch.equal(run.balancer.get_extra_state(), before)
    assert all(parameter.grad is None for parameter in run.model.parameters())


def test_famo_saved_between_backward_and_after_step_goes_on_as_unbroken():
    unbroken, resumed = Run(gb.FAMO(lr=0.1)), Run(gb.FAMO(lr=0.1))
    for _ in range(3):
        unbroken.backward()
        unbroken.after_step()
    unbroken.backward()
    resumed.model.load_state_dict(unbroken.model.state_dict())
    resumed.balancer.load_state_dict(unbroken.balancer.state_dict())
    for _ in range(3):
        unbroken.after_step()
        resumed.after_step()
        expected = unbroken.backward().weights.tolist()
        assert resumed.backward().weights.tolist() == expected


def test_famo_goes_on_after_a_step_that_was_skipped():
    run = Run(gb.FAMO(), nonfinite="skip")
    run.backward()
    run.after_step()
    before = run.balancer.get_extra_state()
    broken = {name: loss * torch.nan for name, loss in run.model.losses().items()}
    assert run.balancer.backward(broken).status is None
    run.after_step()
    assert torch.equal(run.balancer.get_extra_state(), before)
    run.backward()


def test_famo_learns_from_the_steps_that_it_solved():
    run = Run(gb.FAMO(), every=2)
    statuses = []
    for _ in range(4):
        statuses.append(run.backward().status)
        run.after_step()
    assert statuses == [gb.Status.CONVERGED, gb.Status.REUSED] * 2
    logits = run.balancer.solver.state_dict()["logits"]
    assert [logit["num_steps"] for logit in logits.values()] == [2, 2, 2]


def test_dwa_trains_on_the_means_of_epochs():
    run = Run(gb.DWA(temperature=0.1))
    means = []
    for _ in range(4):
        reports = run.epoch(3)
        ratios = means[-1] / means[-2] if len(means) > 1 else np.ones(3)
        expected = 3 * np.exp(ratios / 0.1) / np.exp(ratios / 0.1).sum()
        for report in reports:
            np.testing.assert_allclose(report.weights, expected, rtol=1e-12)
        means.append(np.mean([report.losses for report in reports], axis=0))
    assert abs(expected - 1).max() > 0.05


def test_dwa_saved_in_the_middle_of_an_epoch_goes_on_as_unbroken():
    unbroken, resumed = Run(gb.DWA()), Run(gb.DWA())
    unbroken.epoch(2)
    unbroken.epoch(2)
    unbroken.backward()
    resumed.model.load_state_dict(unbroken.model.state_dict())
    resumed.balancer.load_state_dict(unbroken.balancer.state_dict())
    for _ in range(3):
        expected = [report.weights.tolist() for report in unbroken.epoch(1)]
        assert [report.weights.tolist() for report in resumed.epoch(1)] == expected


def test_dwa_whose_epochs_never_end_refuses_the_next_step():
    run = Run(gb.DWA(max_epoch_steps=2))
    run.epoch(2)
    run.backward()
    run.backward()
    with pytest.raises(ValueError, match=r"call balancer.end_epoch\(\)"):
        run.backward()
