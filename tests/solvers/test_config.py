import numpy as np
import pytest

import gradbalance as gb
from gradbalance.testing.families import FAMILIES


def config_on_gradients(jac):
    """The paper's operator: the pseudo-inverse of the matrix of unit gradients."""
    units = jac / np.linalg.norm(jac, axis=1, keepdims=True)
    best = np.linalg.pinv(units) @ np.ones(len(jac))
    best /= np.linalg.norm(best)
    return (jac @ best).sum() * best


@pytest.mark.parametrize("shape", [(2, 5), (3, 9), (8, 40), (6, 3)])
def test_agrees_with_the_papers_operator(shape):
    rng = np.random.default_rng(shape)
    jac = rng.standard_normal(shape) * rng.uniform(0.2, 5, (shape[0], 1))
    weights = gb.ConFIG().solve(gb.Problem.of(jac @ jac.T)).weights
    np.testing.assert_allclose(weights @ jac, config_on_gradients(jac), atol=1e-9)


@pytest.mark.parametrize(
    "family", ["iid", "correlated", "condition_1e6", "duplicated", "spread_iid"]
)
def test_cosines_are_equal_and_positive(family):
    for num_tasks in (2, 3, 8, 32):
        jac = FAMILIES[family](np.random.default_rng(num_tasks), num_tasks)
        solution = gb.ConFIG().solve(gb.Problem.of(jac @ jac.T))
        direction = solution.weights @ jac
        cosines = jac @ direction / np.linalg.norm(jac, axis=1) / np.linalg.norm(direction)
        assert solution.status is gb.Status.CONVERGED
        assert cosines.min() > 0
        assert np.ptp(cosines) <= 1e-9


def test_preferences_are_the_ratio_of_the_cosines():
    jac = np.random.default_rng(0).standard_normal((3, 9))
    weights = gb.ConFIG(preferences=[1.0, 2.0, 4.0]).solve(gb.Problem.of(jac @ jac.T)).weights
    projections = jac @ (weights @ jac) / np.linalg.norm(jac, axis=1)
    np.testing.assert_allclose(projections / projections[0], [1.0, 2.0, 4.0], rtol=1e-9)


def test_opposed_gradients_are_stationary():
    solution = gb.ConFIG().solve(gb.Problem.of([[4.0, -2.0], [-2.0, 1.0]]))
    assert solution.status is gb.Status.STATIONARY
    assert solution.weights.tolist() == [0.0, 0.0]


def test_a_negative_length_still_lowers_the_sum_of_the_losses():
    # In the plane, three gradients point up and a long one down: u follows the majority.
    jac = np.array([[0.1, 1.0], [-0.1, 1.0], [0.0, 1.0], [0.01, -50.0]])
    solution = gb.ConFIG().solve(gb.Problem.of(jac @ jac.T))
    direction = solution.weights @ jac
    assert solution.status is gb.Status.ILL_POSED
    assert direction[1] < 0
    np.testing.assert_allclose(direction, config_on_gradients(jac), atol=1e-9)
    assert jac.sum(axis=0) @ direction > 0


def test_a_zero_gradient_is_left_out():
    solution = gb.ConFIG().solve(gb.Problem.of(np.diag([4.0, 0.0, 1.0])))
    np.testing.assert_allclose(solution.weights, [0.75, 0.0, 1.5])
