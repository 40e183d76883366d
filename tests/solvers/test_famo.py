import numpy as np
import pytest
import torch

import gradbalance as gb


def step(solver, before, after):
    """The weights of one step from these losses by task to those."""
    problem = gb.Problem.of(losses=list(before.values()), names=list(before))
    solution = solver.solve(problem)
    solver.update(problem, solution)
    solver.after_step(after)
    return solution.weights


def by_name(losses):
    return dict(zip("abcdefgh", np.asarray(losses).tolist(), strict=False))


def test_against_autograd_and_torchs_adam():
    rng = np.random.default_rng(0)
    bounds = torch.tensor([0.0, -1.0, 0.05], dtype=torch.float64)
    solver = gb.FAMO(lr=0.1, weight_decay=0.01, min_losses=bounds.tolist())
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=0.1, weight_decay=0.01, eps=0.0)
    for _ in range(20):
        before = torch.tensor(rng.uniform(0.1, 3.0, 3))
        after = before * torch.tensor(rng.uniform(0.6, 1.1, 3))
        losses = before.clone().requires_grad_()
        shares = torch.softmax(logits, 0).detach()
        scale = (shares / (before - bounds)).sum()
        ((losses - bounds).log() * shares / scale).sum().backward()
        falls = (before - bounds).log() - (after - bounds).log()
        adam.zero_grad()
        (torch.softmax(logits, 0) @ falls).backward()
        adam.step()
        found = step(solver, by_name(before), by_name(after))
        np.testing.assert_allclose(found, losses.grad.numpy(), rtol=1e-12)


def test_weights_sum_to_one_and_start_at_the_inverse_losses():
    weights = step(gb.FAMO(), {"a": 1.0, "b": 4.0}, {"a": 1.0, "b": 4.0})
    assert weights == pytest.approx([0.8, 0.2])


def test_the_relatively_slowest_task_gains_weight():
    solver = gb.FAMO()
    for _ in range(20):
        weights = step(solver, {"a": 1.0, "b": 100.0}, {"a": 0.99, "b": 50.0})
    shares = weights * np.array([1.0, 100.0])
    assert shares[0] > 1.5 * shares[1]


def test_the_units_of_a_loss_do_not_matter():
    rng = np.random.default_rng(1)
    units = np.array([1e-6, 1.0, 1e6])
    plain, scaled = gb.FAMO(), gb.FAMO()
    for _ in range(10):
        before, after = rng.uniform(1, 2, 3), rng.uniform(0.5, 1.5, 3)
        expected = step(plain, by_name(before), by_name(after))
        found = step(scaled, by_name(units * before), by_name(units * after)) * units
        np.testing.assert_allclose(found / found.sum(), expected, rtol=1e-9)


def test_weight_decay_draws_back_to_even_shares():
    solver = gb.FAMO(weight_decay=0.1)
    losses = {"a": 1.0, "b": 1.0}
    for _ in range(10):
        step(solver, losses, {"a": 1.0, "b": 0.5})
    tilted = step(solver, losses, losses)
    for _ in range(300):
        weights = step(solver, losses, losses)
    assert tilted[0] > 0.55
    assert weights == pytest.approx([0.5, 0.5], abs=0.02)


def test_solving_again_before_after_step_is_an_error_that_changes_nothing():
    solver, problem = gb.FAMO(), gb.Problem.of(losses=[1.0, 2.0])
    solver.update(problem, solver.solve(problem))
    before = solver.state_dict()
    with pytest.raises(ValueError, match=r"call balancer.after_step\(losses\) after optimizer"):
        solver.solve(problem)
    assert solver.state_dict() == before
    solver.after_step({"0": 0.9, "1": 1.9})
    solver.solve(problem)


def test_after_step_without_a_step_does_nothing():
    solver = gb.FAMO()
    solver.after_step({"a": 1.0})
    assert solver.state_dict() == gb.FAMO().state_dict()


def test_a_loss_that_falls_to_its_bound_teaches_nothing():
    # Its logarithm is infinite; the other one is heeded as if it were alone.
    solvers = [gb.FAMO(min_losses={"a": 0.0, "b": 0.5}) for _ in range(2)]
    problem = gb.Problem.of(losses=[1.0, 1.0], names=["a", "b"])
    for solver, last in zip(solvers, (0.5, float("nan")), strict=True):
        solver.update(problem, solver.solve(problem))
        solver.after_step({"a": 0.7, "b": last})
    assert solvers[0].state_dict() == solvers[1].state_dict()


@pytest.mark.parametrize("loss", [0.4, 0.2])
def test_a_loss_below_its_bound_is_refused_by_name(loss):
    solver = gb.FAMO(min_losses={"a": 0.0, "b": 0.5})
    for found in (0.5, loss):
        with pytest.raises(ValueError, match=r"task 'b' with the bound 0\.5"):
            step(solver, {"a": 1.0, "b": found}, {})
    problem = gb.Problem.of(losses=[1.0, 1.0], names=["a", "b"])
    solver.update(problem, solver.solve(problem))
    before = solver.state_dict()
    with pytest.raises(ValueError, match=r"task 'b' with the bound 0\.5"):
        solver.after_step({"a": 1.0, "b": loss})
    assert solver.state_dict() == before


def test_a_missing_loss_is_an_error_and_one_more_is_none():
    solver, problem = gb.FAMO(), gb.Problem.of(losses=[1.0, 2.0], names=["a", "b"])
    solver.update(problem, solver.solve(problem))
    with pytest.raises(ValueError, match=r"\['b'\] are missing"):
        solver.after_step({"a": 1.0})
    solver.after_step({"a": 1.0, "b": 1.0, "c": 1.0})
    assert set(solver.state_dict()["logits"]) == {"a", "b"}


def test_a_loss_that_is_not_finite_says_nothing_about_its_task():
    solver = gb.FAMO()
    step(solver, by_name([1.0, 1.0, 1.0]), by_name([0.9, 0.8, float("nan")]))
    assert set(solver.state_dict()["logits"]) == {"a", "b"}
    nan = float("nan")
    step(solver, by_name([1.0, 1.0, 1.0]), by_name([nan, nan, nan]))
    assert np.isfinite(step(solver, by_name([1.0, 1.0, 1.0]), by_name([1.0, 1.0, 1.0]))).all()


def test_absent_tasks_keep_their_logit():
    solver = gb.FAMO()
    step(solver, by_name([1.0, 1.0, 1.0]), by_name([0.9, 0.8, 0.7]))
    before = solver.state_dict()["logits"]["c"]
    step(solver, by_name([1.0, 1.0]), by_name([0.9, 0.8]))
    assert solver.state_dict()["logits"]["c"] == before
