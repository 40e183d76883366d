import numpy as np
import pytest

import gradbalance as gb


def aligned_by_hand(jac, preferences):
    """The paper's system of rows √λ_min U Vᵀ from the rows' own singular values."""
    left, values, right = np.linalg.svd(jac, full_matrices=False)
    kept = values > 1e-6 * values[0]
    aligned = values[kept][-1] * left[:, kept] @ right[kept]
    return preferences @ aligned


@pytest.mark.parametrize("shape", [(2, 5), (6, 20), (6, 3)])
def test_the_direction_is_that_of_the_aligned_system(shape):
    rng = np.random.default_rng(0)
    jac = rng.standard_normal(shape) * rng.uniform(0.1, 10, (shape[0], 1))
    weights = gb.AlignedMTL().solve(gb.Problem.of(jac @ jac.T)).weights
    expected = aligned_by_hand(jac, np.full(shape[0], 1 / shape[0]))
    np.testing.assert_allclose(weights @ jac, expected, atol=1e-9)


def test_orthogonal_gradients_are_brought_to_the_shortest_ones_length():
    weights = gb.AlignedMTL().solve(gb.Problem.of(np.diag([4.0, 1.0, 16.0]))).weights
    np.testing.assert_allclose(weights, [1 / 6, 1 / 3, 1 / 12])


def test_preferences_weight_the_aligned_gradients():
    rng = np.random.default_rng(1)
    jac = rng.standard_normal((3, 8))
    solver = gb.AlignedMTL(preferences={"a": 3.0, "b": 1.0, "c": 0.0})
    weights = solver.solve(gb.Problem.of(jac @ jac.T, names="abc")).weights
    np.testing.assert_allclose(
        weights @ jac, aligned_by_hand(jac, np.array([0.75, 0.25, 0.0])), atol=1e-12
    )


def test_a_task_given_twice_in_float32_is_no_new_direction():
    rng = np.random.default_rng(2)
    jac = rng.standard_normal((3, 500))
    jac = np.vstack([jac, jac[0] * (1 + 1e-7 * rng.standard_normal(500))])
    weights = gb.AlignedMTL().solve(gb.Problem.of(jac @ jac.T)).weights
    assert weights[0] == pytest.approx(weights[3], rel=1e-4)
    assert np.linalg.norm(weights @ jac) > 0.1
    noisy = gb.AlignedMTL(rank_tol=1e-15).solve(gb.Problem.of(jac @ jac.T)).weights
    assert np.linalg.norm(noisy @ jac) < 1e-4


def test_zero_gradients_get_no_weight_and_cost_the_others_nothing():
    weights = gb.AlignedMTL().solve(gb.Problem.of(np.diag([4.0, 0.0, 1.0]))).weights
    np.testing.assert_allclose(weights, [1 / 6, 0.0, 1 / 3], atol=1e-15)


def test_all_gradients_zero_is_stationary():
    solution = gb.AlignedMTL().solve(gb.Problem.of(np.zeros((4, 4))))
    assert solution.status is gb.Status.STATIONARY
    assert solution.weights.tolist() == [0.25] * 4


@pytest.mark.parametrize(
    ("scale_mode", "scale"),
    [("min", lambda v: v[0]), ("median", lambda v: v[1]), ("rmse", lambda v: v.mean())],
)
def test_the_system_is_as_long_as_the_mode_says_and_a_task_count_shorter_than_the_codes_sum(
    scale_mode, scale
):
    rng = np.random.default_rng(3)
    for _ in range(30):
        jac = rng.standard_normal((4, 9)) * rng.uniform(0.1, 10, (4, 1))
        gram = jac @ jac.T
        values, vectors = np.linalg.eigh(gram)  # as in the official code, whose sum is over tasks
        balanced = vectors * np.sqrt(scale(values)) / np.sqrt(values) @ vectors.T
        weights = gb.AlignedMTL(scale_mode=scale_mode).solve(gb.Problem.of(gram)).weights
        np.testing.assert_allclose(4 * weights, balanced.sum(axis=1), rtol=1e-9)
