import numpy as np
import pytest

import gradbalance as gb
from gradbalance.testing.families import FAMILIES
from gradbalance.testing.properties import assert_descends


def test_three_tasks_by_hand():
    # g = (1, 0), (-1, 1), (0, 1). v(e1): off g2, (1/2, 1/2); v(e2): off g1, (0, 1); v(e3): g3.
    jac = np.array([[1.0, 0.0], [-1.0, 1.0], [0.0, 1.0]])
    solution = gb.UPGrad().solve(gb.Problem.of(jac @ jac.T))
    np.testing.assert_allclose(solution.weights @ jac, np.array([0.5, 2.5]) / 3, rtol=1e-14)
    np.testing.assert_allclose(solution.weights, np.array([2.0, 1.5, 1.0]) / 3, rtol=1e-14)


def test_norms_spread_over_six_orders_leave_no_conflict():
    # An ε in the Gramian would leave one in nearly every draw.
    rng = np.random.default_rng(0)
    for _ in range(100):
        jac = rng.standard_normal((4, 6)) * 10.0 ** rng.uniform(-3, 3, (4, 1))
        direction = gb.UPGrad().solve(gb.Problem.of(jac @ jac.T)).weights @ jac
        cosines = jac @ direction / np.linalg.norm(jac, axis=1) / np.linalg.norm(direction)
        assert cosines.min() >= -1e-9


def test_gradients_without_conflict_give_their_mean():
    jac = FAMILIES["correlated"](np.random.default_rng(0), 5)
    solution = gb.UPGrad().solve(gb.Problem.of(jac @ jac.T))
    np.testing.assert_array_equal(solution.weights, np.full(5, 0.2))


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_no_loss_rises_in_a_thousand_draws(family):
    for seed in range(1000):
        jac = FAMILIES[family](np.random.default_rng(seed), 2 + seed % 15)
        assert_descends(gb.UPGrad, gb.Problem.of(jac @ jac.T))


@pytest.mark.parametrize("preferences", [[1.0, 3.0, 2.0], {"a": 1.0, "b": 3.0, "c": 2.0}])
def test_only_the_ratios_of_preferences_count(preferences):
    jac = np.array([[3.0, 0.0, 1.0], [1.0, 2.0, 0.0], [0.5, 0.5, 4.0]])  # no conflict
    problem = gb.Problem.of(jac @ jac.T, names=["a", "b", "c"])
    weights = gb.UPGrad(preferences=preferences).solve(problem).weights
    np.testing.assert_allclose(weights, [1 / 6, 1 / 2, 1 / 3], rtol=1e-15)


def test_a_task_without_preference_is_not_harmed():
    jac = np.array([[1.0, 0.0], [-2.0, 1.0]])
    solution = gb.UPGrad(preferences=[1.0, 0.0]).solve(gb.Problem.of(jac @ jac.T))
    # g1 projected off g2: (1, 0) + 2/5·(-2, 1)
    np.testing.assert_allclose(solution.weights, [1.0, 0.4], rtol=1e-14)


def test_no_preferred_task_takes_part():
    problem = gb.Problem.of(np.eye(2), names=["b", "c"], tasks=["a", "b", "c"])
    solution = gb.UPGrad(preferences={"a": 1.0, "b": 0.0, "c": 0.0}).solve(problem)
    np.testing.assert_array_equal(solution.weights, [0.0, 0.0])
    assert solution.status is gb.Status.STATIONARY
