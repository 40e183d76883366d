"""A gradient method on scaled losses: its weights, promises and state, and published pairs."""

import copy

import numpy as np
import pytest
import torch

import gradbalance as gb
from gradbalance.testing import draw_problem, draw_run
from gradbalance.testing.properties import take


def problems(num_steps, num_tasks=3):
    rng = np.random.default_rng(0)
    for _ in range(num_steps):
        jac = rng.standard_normal((num_tasks, 7)) * [[1.0], [10.0], [0.1]]
        yield jac, gb.Problem.of(jac @ jac.T, losses=rng.uniform(0.2, 3.0, num_tasks))


@pytest.mark.parametrize("solver", [gb.MGDA(), gb.UPGrad(), gb.NashMTL(), gb.ConFIG()], ids=repr)
def test_the_direction_is_the_methods_on_scaled_gradients(solver):
    by = gb.Uniform(preferences=[3.0, 0.5, 0.01])
    for jac, problem in problems(5):
        scaled = by.preferences * jac.T
        expected = scaled @ solver.solve(gb.Problem.of(scaled.T @ scaled)).weights
        weights = gb.Scaled(solver, by=by).solve(problem).weights
        assert jac.T @ weights == pytest.approx(expected, rel=1e-9)


def test_imtl_is_its_two_halves_as_published():
    """30 steps of IMTL-L, in torch with its own Adam, and IMTL-G on the losses that it scales."""
    logs = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logs], lr=0.1, eps=0.0)
    solver = gb.Scaled(gb.IMTLG(), by=gb.IMTLL(lr=0.1))
    for jac, problem in problems(30):
        scales = logs.detach().exp().numpy()
        rows = scales[:, None] * jac
        units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        differences, unit_differences = rows[0] - rows[1:], units[0] - units[1:]
        others = rows[0] @ unit_differences.T @ np.linalg.inv(differences @ unit_differences.T)
        expected = np.concatenate([[1 - others.sum()], others]) * scales
        solution = solver.solve(problem)
        assert solution.weights == pytest.approx(expected, rel=1e-7)
        solver.update(problem, solution)
        optimizer.zero_grad()
        (logs.exp() * torch.from_numpy(problem.losses) - logs).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("normalization", ["l2", "loss", "loss+"])
def test_the_normalisation_of_mgda_is_its_own(normalization):
    scaled = gb.Scaled(gb.MGDA(), by=gb.InverseNorm(normalization))
    for _, problem in problems(10):
        weights = scaled.solve(problem).weights
        own = gb.MGDA(normalization=normalization).solve(problem).weights
        assert weights / weights.sum() == pytest.approx(own, rel=1e-9)


def test_promises_and_certificates_survive_any_scales():
    solver = gb.Scaled(gb.UPGrad(), by=gb.RLW())
    for seed in range(20):
        problem = draw_problem("spread_iid", 5, seed=seed)
        solution = solver.solve(problem)
        solver.update(problem, solution)
        assert solution.certificate <= 1
        assert (problem.gramian @ solution.weights >= -1e-9 * np.abs(problem.gramian).max()).all()


def test_a_task_of_scale_zero_gets_no_weight_and_does_not_stop_the_others():
    _, problem = next(problems(1))
    by = gb.Uniform(preferences=[0.0, 1.0, 1.0])
    weights = gb.Scaled(gb.MGDA(), by=by).solve(problem).weights
    others = gb.Problem.of(problem.gramian[1:, 1:])
    assert weights.tolist() == [0.0, *gb.MGDA().solve(others).weights]
    alone = gb.Problem.of([[1.0]], names=["0"], tasks=["0", "1", "2"])
    assert gb.Scaled(gb.MGDA(), by=by).solve(alone).weights == 0.0


def test_both_methods_remember_and_both_are_told_of_epochs():
    solver, run = gb.Scaled(gb.GradVac(beta=0.5), by=gb.DWA()), draw_run()
    take(solver, run)
    state = solver.state_dict()
    assert state["state"]["num_steps"] == len(run)
    assert {task["last"] is None for task in state["by"]["state"]["tasks"].values()} == {False}
    alone = gb.DWA()
    take(alone, run)
    assert state["by"]["state"] == alone.state_dict()


def test_a_state_that_fits_one_half_only_changes_neither():
    solver = gb.Scaled(gb.GradVac(), by=gb.DWA())
    take(solver, draw_run())
    before = copy.deepcopy(solver.state_dict())
    other = gb.Scaled(gb.GradNorm(), by=gb.DWA())
    with pytest.raises(ValueError, match=r"Scaled\(GradNorm\), but this one wraps GradVac"):
        solver.load_state_dict(other.state_dict())
    other = gb.Scaled(gb.GradVac(), by=gb.UW())
    with pytest.raises(ValueError, match=r"Scaled\(UW\), but this one wraps DWA"):
        solver.load_state_dict(other.state_dict())
    assert solver.state_dict() == before


def test_what_cannot_be_composed_is_refused():
    with pytest.raises(ValueError, match=r"a method on the Gramian, such as UPGrad\(\)"):
        gb.Scaled(gb.UW(), by=gb.DWA())
    with pytest.raises(ValueError, match=r"a method on the Gramian"):
        gb.AveragedGramian(gb.UW())
    with pytest.raises(ValueError, match="by must be a Solver"):
        gb.Scaled(gb.UPGrad(), by="l2")
    solver = gb.Scaled(gb.UPGrad(), by=gb.IMTLG())
    with pytest.raises(ValueError, match=r"IMTLG gives scales, which must not be negative"):
        solver.solve(draw_problem("spread_iid", 3, seed=16))


def test_reports_name_the_methods_inside():
    trunk = torch.nn.Linear(2, 2)
    losses = [trunk(torch.ones(2)).square().sum(), trunk(torch.ones(2)).sum() ** 2 + 1]
    balancer = gb.Balancer(gb.Bounded(gb.Scaled(gb.UPGrad(), by=gb.UW())))
    assert balancer.backward(losses).solver == "Bounded(Scaled(UPGrad, UW))"
    with pytest.raises(ValueError, match=r"of the solver Bounded\(Scaled\(UPGrad, UW\)\), but"):
        gb.Balancer(gb.Bounded(gb.MGDA())).load_state_dict(balancer.state_dict())
