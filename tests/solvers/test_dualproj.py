import numpy as np
import pytest

import gradbalance as gb
from gradbalance.testing.families import FAMILIES
from gradbalance.testing.properties import assert_descends


def test_three_tasks_by_hand():
    # g = (3, 0), (-3, 3), (-3, 0); their mean is (-1, 1), which only g1 is against: d = (0, 1).
    jac = np.array([[3.0, 0.0], [-3.0, 3.0], [-3.0, 0.0]])
    solution = gb.DualProj().solve(gb.Problem.of(jac @ jac.T))
    np.testing.assert_allclose(solution.weights @ jac, [0.0, 1.0], atol=1e-14)
    np.testing.assert_allclose(solution.weights, [2 / 3, 1 / 3, 1 / 3], rtol=1e-14)


def test_conflicts_that_the_mean_settles_change_nothing():
    jac = np.array([[2.0, 1.0], [-2.0, 1.0]])
    assert jac[0] @ jac[1] < 0
    solution = gb.DualProj().solve(gb.Problem.of(jac @ jac.T))
    np.testing.assert_array_equal(solution.weights, [0.5, 0.5])


def test_one_preferred_task_is_the_rule_of_the_paper():
    # The new task's gradient, moved as little as takes its conflicts with the earlier ones away.
    rng = np.random.default_rng(0)
    new, earlier = rng.standard_normal(5), rng.standard_normal(5)
    earlier -= (new @ earlier + 1.0) / (new @ new) * new  # a conflict
    jac = np.stack([new, earlier])
    solution = gb.DualProj(preferences=[1.0, 0.0]).solve(gb.Problem.of(jac @ jac.T))
    expected = new - (new @ earlier) / (earlier @ earlier) * earlier
    np.testing.assert_allclose(solution.weights @ jac, expected, atol=1e-14)


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_no_loss_rises_in_a_thousand_draws(family):
    for seed in range(1000):
        jac = FAMILIES[family](np.random.default_rng(seed), 2 + seed % 15)
        assert_descends(gb.DualProj, gb.Problem.of(jac @ jac.T))


@pytest.mark.parametrize("preferences", [[1.0, 3.0, 2.0], {"a": 1.0, "b": 3.0, "c": 2.0}])
def test_only_the_ratios_of_preferences_count(preferences):
    jac = np.array([[3.0, 0.0, 1.0], [1.0, 2.0, 0.0], [0.5, 0.5, 4.0]])  # no conflict
    problem = gb.Problem.of(jac @ jac.T, names=["a", "b", "c"])
    weights = gb.DualProj(preferences=preferences).solve(problem).weights
    np.testing.assert_allclose(weights, [1 / 6, 1 / 2, 1 / 3], rtol=1e-15)


def test_a_task_without_preference_is_not_harmed():
    jac = np.array([[1.0, 0.0], [-2.0, 1.0]])
    solution = gb.DualProj(preferences=[1.0, 0.0]).solve(gb.Problem.of(jac @ jac.T))
    # g1 projected off g2: (1, 0) + 2/5·(-2, 1)
    np.testing.assert_allclose(solution.weights, [1.0, 0.4], rtol=1e-14)


def test_no_preferred_task_takes_part():
    problem = gb.Problem.of(np.eye(2), names=["b", "c"], tasks=["a", "b", "c"])
    solution = gb.DualProj(preferences={"a": 1.0, "b": 0.0, "c": 0.0}).solve(problem)
    np.testing.assert_array_equal(solution.weights, [0.0, 0.0])
    assert solution.status is gb.Status.STATIONARY
