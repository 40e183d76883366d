import numpy as np
import pytest

import gradbalance as gb
from gradbalance.testing.families import FAMILIES

REGULAR = ["iid", "correlated", "condition_1e6", "vertex", "spread_iid", "spread_correlated"]


@pytest.mark.parametrize("family", REGULAR)
@pytest.mark.parametrize("num_tasks", [2, 3, 8, 32])
def test_projections_are_equal_and_weights_sum_to_1(family, num_tasks):
    for seed in range(5):
        jac = FAMILIES[family](np.random.default_rng(seed), num_tasks)
        solution = gb.IMTLG().solve(gb.Problem.of(jac @ jac.T))
        norms = np.linalg.norm(jac, axis=1)
        projections = jac @ (solution.weights @ jac) / norms
        assert np.ptp(projections) <= 1e-9 * (np.abs(solution.weights) @ norms)
        assert solution.status is not gb.Status.ILL_POSED
        assert solution.weights.sum() == pytest.approx(1.0)
        expected = gb.Status.CONVERGED if projections[0] > 0 else gb.Status.ASCENT
        assert solution.status is expected


@pytest.mark.parametrize("num_tasks", [2, 4, 9])
def test_agrees_with_the_papers_formula(num_tasks):
    rng = np.random.default_rng(num_tasks)
    jac = rng.standard_normal((num_tasks, 20)) * rng.uniform(0.5, 2, (num_tasks, 1))
    units = jac / np.linalg.norm(jac, axis=1, keepdims=True)
    differences, turns = jac[0] - jac[1:], units[0] - units[1:]
    others = jac[0] @ turns.T @ np.linalg.inv(differences @ turns.T)
    expected = np.concatenate([[1 - others.sum()], others])
    weights = gb.IMTLG().solve(gb.Problem.of(jac @ jac.T)).weights
    np.testing.assert_allclose(weights, expected, rtol=1e-9)


def test_preferences_are_the_ratio_of_the_projections():
    jac = np.random.default_rng(0).standard_normal((3, 9))
    weights = gb.IMTLG(preferences=[1.0, 2.0, 4.0]).solve(gb.Problem.of(jac @ jac.T)).weights
    projections = jac @ (weights @ jac) / np.linalg.norm(jac, axis=1)
    np.testing.assert_allclose(projections / projections[0], [1.0, 2.0, 4.0], rtol=1e-9)


# Regular, with a component of C⁻¹1 that is negative: on a short gradient it outweighs the others.
COSINES = np.array([[1.0, 0.7, 0.0], [0.7, 1.0, 0.7], [0.0, 0.7, 1.0]])


def gram_of(norms):
    return COSINES * np.outer(norms, norms)


def test_ascent_is_told():
    # C⁻¹1 ∝ (15, −20, 15): Σ v_i/s_i is negative where the second norm is small.
    solution = gb.IMTLG().solve(gb.Problem.of(gram_of([1.0, 0.1, 1.0])))
    assert solution.status is gb.Status.ASCENT
    assert solution.weights.sum() == pytest.approx(1.0)
    assert (gram_of([1.0, 0.1, 1.0]) @ solution.weights < 0).all()


def test_an_explosion_is_bounded_and_lowers_the_losses():
    gram = gram_of([1.0, 2 / 3, 1.0])  # 15 − 20·3/2 + 15 = 0
    solution = gb.IMTLG().solve(gb.Problem.of(gram))
    assert solution.status is gb.Status.ILL_POSED
    np.testing.assert_allclose(solution.weights, [0.25, -0.5, 0.25], rtol=1e-9)
    assert (gram @ solution.weights > 0).all()


def test_opposed_gradients_are_stationary():
    solution = gb.IMTLG().solve(gb.Problem.of([[4.0, -2.0], [-2.0, 1.0]]))
    assert solution.status is gb.Status.STATIONARY
    assert solution.weights.tolist() == [0.0, 0.0]


def test_more_tasks_than_parameters_is_told_and_bounded():
    jac = np.random.default_rng(0).standard_normal((8, 3))
    solution = gb.IMTLG().solve(gb.Problem.of(jac @ jac.T))
    assert solution.status is gb.Status.ILL_POSED
    assert np.abs(solution.weights).sum() == pytest.approx(1.0)


def test_a_zero_gradient_is_left_out():
    solution = gb.IMTLG().solve(gb.Problem.of(np.diag([4.0, 0.0, 1.0])))
    np.testing.assert_allclose(solution.weights, [1 / 3, 0.0, 2 / 3])
