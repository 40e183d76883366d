import numpy as np
import pytest
import torch

import gradbalance as gb
from gradbalance.testing.properties import take

NEEDS_POSITIVE = [gb.UW, gb.IMTLL, gb.GLS, gb.SI, gb.DWA, gb.DBMTL, gb.GradNorm, gb.ReLoBRaLo]


def run(shift=0.0):
    rng = np.random.default_rng(0)
    for _ in range(5):
        jac = rng.standard_normal((3, 6))
        losses = rng.uniform(0.1, 2.0, 3)
        yield gb.Problem.of(jac @ jac.T, losses=losses + shift)


@pytest.mark.parametrize("make", NEEDS_POSITIVE)
def test_losses_below_zero_are_seen_above_their_bounds(make):
    bounds = np.array([-4.0, -2.5, 1.0])
    shifted = gb.Shifted(make(), min_losses=bounds.tolist())
    expected, found = take(make(), list(run())), take(shifted, list(run(bounds)))
    assert found == pytest.approx(np.array(expected), rel=1e-12)


def test_one_number_is_for_all_tasks():
    problem = gb.Problem.of(losses=[-0.75, 0.0])
    assert gb.Shifted(gb.SI(), min_losses=-1).solve(problem).weights.tolist() == [4.0, 1.0]


def test_a_loss_below_its_bound_is_named_before_anything_is_written():
    x = torch.zeros(2, requires_grad=True)
    balancer = gb.Balancer(gb.Shifted(gb.UW(), min_losses={"likelihood": -3.0, "class": 0.0}))
    losses = {"likelihood": (x - 1).sum() - 2, "class": (x + 1).square().sum()}
    with pytest.raises(ValueError, match=r"task 'likelihood' is -4, below its least possible"):
        balancer.backward(losses)
    assert x.grad is None


def test_bounds_must_fit():
    for wrong in (None, "x", [], [float("nan")], {"a": None}):
        with pytest.raises(ValueError, match="min_losses must be numbers in"):
            gb.Shifted(gb.UW(), min_losses=wrong)
    solver = gb.Shifted(gb.UW(), min_losses={"a": 0.0})
    with pytest.raises(ValueError, match="min_losses must name every task"):
        solver.solve(gb.Problem.of(losses=[1.0, 1.0]))


def test_what_hears_of_losses_after_the_step_has_bounds_of_its_own():
    with pytest.raises(ValueError, match=r"use FAMO\(min_losses=...\)"):
        gb.Shifted(gb.CRMOGM(gb.FAMO()), min_losses=-1.0)
