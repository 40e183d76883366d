"""Saving in the middle of a run and going on elsewhere gives the same run, bit for bit."""

import io

import pytest
import torch

import gradbalance as gb
from gradbalance.state import decode, encode
from tests.contract.table import CONTRACTS
from tests.models import Net

rows = pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS.keys())


class Run:
    def __init__(self, solver):
        self.model = Net(dtype=torch.float32)
        self.model.balancer = gb.Balancer(solver, gb.SharedParameters(self.model.trunk))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)

    def step(self):
        self.optimizer.zero_grad()
        report = self.model.balancer.backward(self.model.losses())
        self.optimizer.step()
        self.model.balancer.after_step(self.model.losses())
        self.model.balancer.end_epoch()
        return report

    def save(self):
        file = io.BytesIO()
        torch.save(
            {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}, file
        )
        file.seek(0)
        return file

    def load(self, file):
        state = torch.load(file, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


@rows
def test_a_resumed_run_is_the_unbroken_one(contract):
    unbroken, resumed = Run(contract.make()), Run(contract.make())
    for _ in range(4):
        unbroken.step()
    resumed.load(unbroken.save())
    for _ in range(4):
        assert unbroken.step().weights.tolist() == resumed.step().weights.tolist()
    for first, second in zip(unbroken.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(first, second)


@rows
def test_precision_and_moves_do_not_harm_the_state(contract):
    run = Run(contract.make())
    for _ in range(3):
        run.step()
    before = run.model.balancer.get_extra_state()
    run.model.balancer.half().to(torch.bfloat16).to("cpu")
    assert torch.equal(run.model.balancer.get_extra_state(), before)


def test_the_state_is_a_copy():
    run = Run(gb.GradNorm())
    run.step()
    saved = run.model.balancer.state_dict()
    text = repr(saved)
    run.step()
    assert repr(saved) == text


def test_a_fresh_state_loads():
    gb.Balancer(gb.MGDA()).load_state_dict(gb.Balancer(gb.MGDA()).state_dict())


@pytest.mark.parametrize(
    ("other", "match"),
    [
        (lambda: gb.Balancer(gb.PCGrad()), "of the solver GradNorm"),
        (lambda: gb.Balancer(gb.GradNorm(), tasks=["a", "b"]), "of the tasks"),
    ],
)
def test_a_state_of_another_balancer_is_refused(other, match):
    run = Run(gb.GradNorm())
    run.step()
    balancer = other()
    before = balancer.get_extra_state()
    with pytest.raises(ValueError, match=match):
        balancer.load_state_dict(run.model.balancer.state_dict())
    assert torch.equal(balancer.get_extra_state(), before)


def test_a_state_of_another_version_is_refused():
    balancer = gb.Balancer(gb.MGDA())
    state = balancer.get_extra_state()
    state[7] = 99
    with pytest.raises(ValueError, match="of version 99"):
        balancer.set_extra_state(state)


def test_a_loaded_balancer_knows_the_tasks():
    run = Run(gb.GradNorm())
    run.step()
    balancer = gb.Balancer(gb.GradNorm())
    balancer.load_state_dict(run.model.balancer.state_dict())
    with pytest.raises(ValueError, match="unknown tasks"):
        balancer.backward({"other": run.model.losses()["task0"]})


def test_a_fresh_state_leaves_the_tasks_that_were_given():
    balancer = gb.Balancer(gb.MGDA(), tasks=["a", "b"])
    balancer.load_state_dict(gb.Balancer(gb.MGDA()).state_dict())
    assert balancer.tasks == ("a", "b")


def test_a_state_that_the_solver_refuses_leaves_the_tasks_open():
    run = Run(gb.GradNorm())
    run.step()
    state = decode(run.model.balancer.get_extra_state())
    state["memory"]["solvers"][0] = {"nonsense": 1}
    balancer = gb.Balancer(gb.GradNorm())
    with pytest.raises(ValueError, match="GradNorm"):
        balancer.set_extra_state(encode(state, 1 << 16))
    assert balancer.tasks is None
