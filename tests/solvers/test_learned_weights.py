"""UW and IMTL-L: learned scales, against autograd and torch's Adam."""

import numpy as np
import pytest
import torch

import gradbalance as gb


def uw_objective(s, losses):
    return (0.5 * torch.exp(-s) * losses + 0.5 * s).sum()


def imtll_objective(s, losses):
    return (torch.exp(s) * losses - s).sum()


objectives = pytest.mark.parametrize(
    ("make", "objective"), [(gb.UW, uw_objective), (gb.IMTLL, imtll_objective)]
)
solvers = pytest.mark.parametrize("make", [gb.UW, gb.IMTLL])


def run(solver, problems):
    weights = []
    for problem in problems:
        solution = solver.solve(problem)
        weights.append(solution.weights)
        solver.update(problem, solution)
    return np.array(weights)


def steps(num_steps, names=("a", "b", "c")):
    rng = np.random.default_rng(0)
    for _ in range(num_steps):
        losses = rng.uniform(0.5, 2, 3)[: len(names)] * np.array([0.1, 1.0, 10.0])[: len(names)]
        yield gb.Problem.of(losses=losses, names=names)


@objectives
def test_against_autograd_and_torchs_adam(make, objective):
    s = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([s], lr=0.1, eps=0.0)
    expected = []
    for problem in steps(20):
        losses = torch.tensor(problem.losses, requires_grad=True)
        adam.zero_grad()
        objective(s, losses).backward()
        expected.append(losses.grad.numpy())  # with s as it was before its step
        adam.step()
    np.testing.assert_allclose(run(make(lr=0.1), steps(20)), expected, rtol=1e-12)


@pytest.mark.parametrize(("make", "product"), [(gb.UW, 0.5), (gb.IMTLL, 1.0)])
def test_at_rest_all_weighted_losses_are_equal(make, product):
    problem = gb.Problem.of(losses=[0.01, 1.0, 5.0])
    weights = run(make(), [problem] * 1500)[-1]
    assert weights * problem.losses == pytest.approx([product] * 3, rel=0.01)


def test_both_are_one_method_up_to_a_factor():
    found, expected = run(gb.UW(), steps(20)), run(gb.IMTLL(), steps(20))
    np.testing.assert_allclose(2 * found, expected, rtol=1e-12)


@pytest.mark.parametrize(("make", "neutral"), [(gb.UW, 0.5), (gb.IMTLL, 1.0)])
def test_absent_tasks_keep_their_state_and_new_ones_start_neutral(make, neutral):
    solver = make(lr=0.1)
    run(solver, steps(5, names=("a", "b")))
    (before,) = solver.state_dict().values()
    run(solver, steps(1, names=("a",)))
    (after,) = solver.state_dict().values()
    assert after["b"] == before["b"]
    assert after["a"] != before["a"]
    weights = solver.solve(next(steps(1))).weights
    assert weights[2] == neutral
    assert weights[1] != neutral


@solvers
@pytest.mark.parametrize("loss", [0.0, -1.0])
def test_a_loss_that_is_not_positive_is_refused_by_name(make, loss):
    with pytest.raises(ValueError, match="task 'b'"):
        make().solve(gb.Problem.of(losses=[1.0, loss], names=["a", "b"]))
