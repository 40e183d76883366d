import numpy as np
import pytest
import torch

import gradbalance as gb


def run(solver, problems):
    weights = []
    for problem in problems:
        solution = solver.solve(problem)
        weights.append(solution.weights)
        solver.update(problem, solution)
    return np.array(weights)


def steps(num_steps, *, num_tasks=3, seed=0, names=None):
    rng = np.random.default_rng(seed)
    for _ in range(num_steps):
        jac = rng.standard_normal((num_tasks, 5)) * np.array([[0.1], [1.0], [10.0]])[:num_tasks]
        yield gb.Problem.of(jac @ jac.T, rng.uniform(0.5, 2, num_tasks), names=names)


def test_against_autograd_and_torchs_adam():
    alpha, lr = 1.5, 0.025
    w = torch.ones(3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([w], lr=lr, eps=0.0)
    expected, first_losses = [], None
    for problem in steps(20):
        expected.append(w.detach().numpy().copy())
        norms = torch.tensor(problem.gramian).diagonal().sqrt()
        losses = torch.tensor(problem.losses)
        first_losses = losses if first_losses is None else first_losses
        weighted = w * norms
        ratios = losses / first_losses
        targets = (weighted.mean() * (ratios / ratios.mean()) ** alpha).detach()
        adam.zero_grad()
        (weighted - targets).abs().sum().backward()
        adam.step()
        with torch.no_grad():
            w *= 3 / w.sum()
    found = run(gb.GradNorm(alpha=alpha, lr=lr), steps(20))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_weights_are_applied_before_they_are_updated_and_sum_to_the_number_of_tasks():
    weights = run(gb.GradNorm(lr=0.1), steps(10))
    assert weights[0].tolist() == [1.0, 1.0, 1.0]
    assert not np.array_equal(weights[1], weights[0])
    np.testing.assert_allclose(weights.sum(axis=1), 3.0)


def test_slow_tasks_gain_weight():
    # Equal norms; the second loss does not fall, so its relative rate is larger: +alpha.
    solver = gb.GradNorm(alpha=1.0, lr=0.05)
    falling = [gb.Problem.of(np.eye(2), [1.0 / (1 + t), 1.0]) for t in range(20)]
    weights = run(solver, falling)
    assert weights[-1][1] > 1.2
    assert weights[-1][0] < 0.8


def test_weights_stay_positive():
    solver = gb.GradNorm(alpha=0.0, lr=0.5)
    problem = gb.Problem.of(np.diag([1e6, 1.0]), [1.0, 1.0])
    weights = run(solver, [problem] * 50)
    assert weights.min() >= 0.999e-4 * weights.mean()


def test_a_first_loss_of_zero_does_not_divide():
    solver = gb.GradNorm()
    weights = run(solver, [gb.Problem.of(np.eye(2), [0.0, 1.0]), *[gb.Problem.of(np.eye(2))] * 5])
    assert np.isfinite(weights).all()


def test_a_negative_loss_is_refused_by_name():
    with pytest.raises(ValueError, match="'b'"):
        gb.GradNorm().solve(gb.Problem.of(np.eye(2), [1.0, -1.0], names=["a", "b"]))


def test_an_absent_task_keeps_its_weight_and_the_total():
    solver = gb.GradNorm(lr=0.1)
    run(solver, steps(5, names=["a", "b", "c"]))
    before = solver.state_dict()["weights"]
    run(solver, steps(5, num_tasks=2, names=["a", "b"]))
    after = solver.state_dict()["weights"]
    assert after["c"] == before["c"]
    assert after["a"] != before["a"]
    assert sum(weight["value"] for weight in after.values()) == pytest.approx(3.0)


@pytest.mark.parametrize("first_loss", [0.0, 1e-15])
def test_a_task_that_started_at_nearly_zero_has_the_neutral_rate(first_loss):
    solver = gb.GradNorm(alpha=1.0, lr=0.1)
    started = gb.Problem.of(np.eye(3), [first_loss, 1.0, 1.0])
    later = gb.Problem.of(np.eye(3), [5.0, 0.5, 0.25])
    first, second, third = run(solver, [started, later, later])
    assert first.tolist() == second.tolist() == [1.0, 1.0, 1.0]
    assert third[0] == pytest.approx(1.0)
    assert third[1] > 1.0 > third[2]


def test_losses_that_all_reach_zero_do_not_divide():
    problems = [gb.Problem.of(np.eye(2)), *[gb.Problem.of(np.eye(2), [0.0, 0.0])] * 3]
    assert run(gb.GradNorm(), problems).tolist() == [[1.0, 1.0]] * 4


def test_a_state_replaces_that_of_a_run_with_other_tasks():
    saved, used = gb.GradNorm(), gb.GradNorm()
    run(saved, steps(2, names=["a", "b", "c"]))
    run(used, steps(2, names=["a", "b", "x"]))
    used.load_state_dict(saved.state_dict())
    assert used.state_dict() == saved.state_dict()
