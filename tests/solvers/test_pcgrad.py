import numpy as np
import pytest
import torch

import gradbalance as gb
from gradbalance.solvers.pcgrad import project_conflicts, random_orders


def pcgrad_on_gradients(jac, orders):
    """The paper's loop on the gradients themselves."""
    projected = jac.copy()
    for i, order in enumerate(orders):
        for j in order:
            inner = projected[i] @ jac[j]
            if inner < 0:
                projected[i] -= inner / (jac[j] @ jac[j]) * jac[j]
    return projected


@pytest.mark.parametrize("num_tasks", [1, 2, 3, 7, 20])
def test_the_coefficients_reproduce_the_papers_loop(num_tasks):
    rng = np.random.default_rng(num_tasks)
    jac = rng.standard_normal((num_tasks, 5))
    orders = np.array(
        [rng.permutation([j for j in range(num_tasks) if j != i]) for i in range(num_tasks)]
    ).astype(int)
    expected = pcgrad_on_gradients(jac, orders)
    coefficients = project_conflicts(jac @ jac.T, orders.reshape(num_tasks, num_tasks - 1))
    np.testing.assert_allclose(coefficients @ jac, expected, atol=1e-12)


def test_mean_is_the_sum_over_the_number_of_tasks():
    jac = np.random.default_rng(0).standard_normal((4, 6))
    problem = gb.Problem.of(jac @ jac.T)
    total = gb.PCGrad().solve(problem).weights
    np.testing.assert_allclose(gb.PCGrad(reduction="mean").solve(problem).weights, total / 4)


def test_every_step_and_every_seed_has_its_own_order():
    jac = np.random.default_rng(0).standard_normal((12, 3))
    problem = gb.Problem.of(jac @ jac.T)
    solver = gb.PCGrad()
    first = solver.solve(problem)
    solver.update(problem, first)
    assert not np.array_equal(solver.solve(problem).weights, first.weights)
    assert not np.array_equal(gb.PCGrad(seed=1).solve(problem).weights, first.weights)
    assert np.array_equal(gb.PCGrad(seed=0).solve(problem).weights, first.weights)


def test_the_global_generator_changes_nothing():
    jac = np.random.default_rng(0).standard_normal((12, 3))
    problem = gb.Problem.of(jac @ jac.T)
    found = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        found.append(gb.PCGrad().solve(problem).weights)
    assert np.array_equal(*found)


def test_a_zero_gradient_is_no_ground_to_project_on():
    gram = np.array([[1.0, -1e-20], [-1e-20, 0.0]])
    problem = gb.Problem(("0", "1"), np.ones(2), gram, ("0", "1"))
    assert gb.PCGrad().solve(problem).weights == pytest.approx([1.0, 1.0])


def test_every_task_meets_the_others_in_an_order_of_its_own():
    orders = random_orders(6, np.random.default_rng(0))
    assert [sorted(order) for order in orders] == [
        [j for j in range(6) if j != i] for i in range(6)
    ]
    ranks = np.argsort(orders, axis=1)  # one shuffle of the columns would rank all rows alike
    assert len(np.unique(ranks, axis=0)) > 1


def test_the_seed_is_part_of_the_state():
    jac = np.random.default_rng(0).standard_normal((12, 3))
    problem = gb.Problem.of(jac @ jac.T)
    saved, loaded = gb.PCGrad(seed=5), gb.PCGrad()
    loaded.load_state_dict(saved.state_dict())
    assert np.array_equal(loaded.solve(problem).weights, saved.solve(problem).weights)
