import numpy as np
import pytest

import gradbalance as gb
from gradbalance.solvers.gradvac import turn_to_goals
from gradbalance.solvers.pcgrad import random_orders


def gradvac_on_gradients(jac, goals, orders, beta):
    """The paper's loop on the gradients themselves, and the goals after it."""
    turned, goals = jac.copy(), goals.copy()
    for i, order in enumerate(orders):
        for j in order:
            length, other = np.linalg.norm(turned[i]), np.linalg.norm(jac[j])
            cosine, goal = turned[i] @ jac[j] / length / other, goals[i, j]
            if cosine < goal:
                sine, goal_sine = np.sqrt(1 - cosine**2), np.sqrt(1 - goal**2)
                factor = length * (goal * sine - cosine * goal_sine) / (other * goal_sine)
                turned[i] += factor * jac[j]
            goals[i, j] = (1 - beta) * goal + beta * cosine
    return turned.sum(axis=0), goals


@pytest.mark.parametrize("num_tasks", [2, 3, 7, 20])
def test_follows_the_papers_loop_over_several_steps(num_tasks):
    rng = np.random.default_rng(num_tasks)
    solver, goals = gb.GradVac(beta=0.3, seed=5), np.zeros((num_tasks, num_tasks))
    common = rng.standard_normal(9)
    for step in range(6):
        jac = common + rng.standard_normal((num_tasks, 9)) * rng.uniform(0.3, 3, (num_tasks, 1))
        problem = gb.Problem.of(jac @ jac.T)
        orders = random_orders(num_tasks, np.random.default_rng((5, step)))
        expected, goals = gradvac_on_gradients(jac, goals, orders, 0.3)
        solution = solver.solve(problem)
        np.testing.assert_allclose(solution.weights @ jac, expected, rtol=1e-8, atol=1e-8)
        solver.update(problem, solution)
    saved = solver.state_dict()["cosines"]
    for i in range(num_tasks):
        for j in set(range(num_tasks)) - {i}:
            assert saved[str(i)][str(j)] == pytest.approx(goals[i, j], abs=1e-9)


def test_the_first_step_is_pcgrads():
    jac = np.random.default_rng(0).standard_normal((9, 4))
    problem = gb.Problem.of(jac @ jac.T)
    expected = gb.PCGrad().solve(problem).weights
    np.testing.assert_allclose(gb.GradVac().solve(problem).weights, expected, rtol=1e-9)


def test_a_cosine_below_its_goal_is_raised_to_it():
    coefficients, met = turn_to_goals(
        np.array([[1.0, 0.2], [0.2, 1.0]]), np.full((2, 2), 0.6), np.array([[1], [0]])
    )
    jac = np.array([[1.0, 0.0], [0.2, np.sqrt(0.96)]])
    turned = coefficients[0] @ jac
    assert turned @ jac[1] / np.linalg.norm(turned) == pytest.approx(0.6)
    assert met[0, 1] == pytest.approx(0.2)


def test_goals_follow_without_conflict_and_only_when_updated():
    solver, problem = gb.GradVac(beta=0.25), gb.Problem.of([[4.0, 1.0], [1.0, 1.0]])
    solution = solver.solve(problem)
    assert solver.state_dict()["cosines"] == {}
    solver.update(problem, solution)
    assert solver.state_dict()["cosines"]["0"]["1"] == 0.125
    solver.update(problem, solution)  # without a solve before it
    assert solver.state_dict()["cosines"]["1"]["0"] == 0.75 * 0.125 + 0.125


def test_an_update_is_about_its_own_problem():
    solver, problem = gb.GradVac(beta=0.5), gb.Problem.of([[1.0, 0.5], [0.5, 1.0]])
    solution = solver.solve(problem)
    solver.solve(gb.Problem.of([[1.0, -0.5], [-0.5, 1.0]]))  # looked at in between
    solver.update(problem, solution)
    assert solver.state_dict()["cosines"]["0"]["1"] == 0.25


def test_absent_tasks_keep_their_goals():
    solver = gb.GradVac(beta=0.5)
    problem = gb.Problem.of([[1.0, 0.5], [0.5, 1.0]], names="ab")
    solver.update(problem, solver.solve(problem))
    other = gb.Problem.of([[1.0, 0.8], [0.8, 1.0]], names="bc")
    solver.update(other, solver.solve(other))
    saved = solver.state_dict()["cosines"]
    assert (saved["a"]["b"], saved["b"]["a"], saved["c"]["b"]) == (0.25, 0.25, 0.4)


def test_an_opposed_gradient_cancels_and_has_no_cosine_afterwards():
    # The first gradient and its opposite cancel; whatever comes next meets a zero vector.
    cosines = np.array([[1.0, -1.0, 0.5], [-1.0, 1.0, -0.5], [0.5, -0.5, 1.0]])
    coefficients, met = turn_to_goals(cosines, np.zeros((3, 3)), np.array([[1, 2], [0, 2], [0, 1]]))
    assert coefficients[0].tolist() == [1.0, 1.0, 0.0]
    assert np.isnan(met[0, 2])
    assert np.isfinite(coefficients).all()


def test_what_rounding_leaves_of_a_cancelled_gradient_has_no_cosine():
    orders = np.array([[1, 2], [0, 2], [0, 1]])
    for seed in range(20):
        jac = np.random.default_rng(seed).standard_normal((3, 7))
        jac[1] = -jac[0] * np.exp(jac[2, 0])
        jac /= np.linalg.norm(jac, axis=1, keepdims=True)
        _, met = turn_to_goals(jac @ jac.T, np.zeros((3, 3)), orders)
        assert np.isnan(met[0, 2])


def test_a_zero_gradient_is_left_alone_and_has_no_goal():
    solver, problem = gb.GradVac(beta=0.5), gb.Problem.of([[1.0, 0.0], [0.0, 0.0]])
    solution = solver.solve(problem)
    assert solution.weights[0] == 1.0
    assert np.isfinite(solution.weights).all()
    solver.update(problem, solution)
    assert solver.state_dict()["cosines"]["0"]["1"] == 0.0


def test_goals_near_1_stretch_nothing_without_bound():
    solver = gb.GradVac(beta=1.0)
    same = gb.Problem.of(np.ones((40, 40)))
    for _ in range(3):  # goals of exactly 1
        solution = solver.solve(same)
        np.testing.assert_allclose(solution.weights, 1.0)
        solver.update(same, solution)
    jac = np.random.default_rng(0).standard_normal((40, 50))
    weights = solver.solve(gb.Problem.of(jac @ jac.T)).weights
    assert np.isfinite(weights).all()
    norms = np.linalg.norm(jac, axis=1)
    assert np.linalg.norm(weights @ jac) <= 1.01e6 * norms.sum()
