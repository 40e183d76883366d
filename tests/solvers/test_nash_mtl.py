import numpy as np
import pytest

import gradbalance as gb

JAC = np.array([[3.0, 0.0, 1.0], [-1.0, 2.0, 0.0], [0.5, 0.5, -4.0]])


def test_two_tasks_by_hand():
    # g1 = (1, 0), g2 = (0, 2): w_i² ‖g_i‖² = 1
    weights = gb.NashMTL().solve(gb.Problem.of([[1.0, 0.0], [0.0, 4.0]])).weights
    np.testing.assert_allclose(weights, [1.0, 0.5], rtol=1e-14)
    # g1 = (1, 0), g2 = (-1, 1): the cosine is −1/√2
    weights = gb.NashMTL().solve(gb.Problem.of([[1.0, -1.0], [-1.0, 2.0]])).weights
    length = 1 / np.sqrt(1 - np.sqrt(0.5))
    np.testing.assert_allclose(weights, [length, length / np.sqrt(2)], rtol=1e-10)


def test_each_weight_times_its_decrease_is_its_preference():
    gram = JAC @ JAC.T
    solution = gb.NashMTL().solve(gb.Problem.of(gram))
    np.testing.assert_allclose(solution.weights * (gram @ solution.weights), 1.0, rtol=1e-8)
    solution = gb.NashMTL(preferences=[1.0, 5.0, 0.2]).solve(gb.Problem.of(gram))
    descent = gram @ solution.weights
    np.testing.assert_allclose(solution.weights * descent, [1.0, 5.0, 0.2], rtol=1e-8)
    assert (descent > 0).all()


def test_no_direction_has_a_larger_product_of_decreases():
    direction = gb.NashMTL().solve(gb.Problem.of(JAC @ JAC.T)).weights @ JAC
    best = np.log(JAC @ direction / np.linalg.norm(direction)).sum()
    others = np.random.default_rng(0).standard_normal((20_000, 3))
    decreases = others @ JAC.T / np.linalg.norm(others, axis=1)[:, None]
    decreases = decreases[(decreases > 0).all(axis=1)]
    assert len(decreases) > 100
    assert np.log(decreases).sum(axis=1).max() <= best


def test_the_length_is_the_root_of_the_number_of_tasks():
    for norms in ([1.0, 1.0, 1.0], [1e-3, 1.0, 1e3]):
        jac = JAC * np.array(norms)[:, None]
        weights = gb.NashMTL().solve(gb.Problem.of(jac @ jac.T)).weights
        assert np.linalg.norm(weights @ jac) == pytest.approx(np.sqrt(3), rel=1e-9)


def test_max_norm_clips_and_never_lengthens():
    problem = gb.Problem.of(JAC @ JAC.T)
    free = gb.NashMTL().solve(problem).weights
    clipped = gb.NashMTL(max_norm=0.5).solve(problem).weights
    np.testing.assert_allclose(clipped, free * 0.5 / np.sqrt(3), rtol=1e-9)
    np.testing.assert_array_equal(gb.NashMTL(max_norm=2.0).solve(problem).weights, free)


@pytest.mark.parametrize("max_norm", [None, 1.0])
def test_opposed_gradients_are_told_and_keep_the_weights_bounded(max_norm):
    jac = np.array([[1.0, 0.0], [-3.0, 0.0], [0.0, 1.0]])
    solution = gb.NashMTL(max_norm=max_norm).solve(gb.Problem.of(jac @ jac.T))
    assert solution.status is gb.Status.STATIONARY
    np.testing.assert_allclose(solution.weights, [1.5, 0.5, 0.0], atol=1e-6)


def test_nearly_opposed_gradients_still_both_fall():
    jac = np.array([[1.0, 1e-5], [-1.0, 1e-5]])
    solution = gb.NashMTL().solve(gb.Problem.of(jac @ jac.T))
    assert solution.status is gb.Status.CONVERGED
    assert (jac @ (solution.weights @ jac) > 0).all()


def test_a_limit_of_steps_is_told():
    solution = gb.NashMTL(max_steps=1).solve(gb.Problem.of(JAC @ JAC.T))
    assert solution.status is gb.Status.STEP_LIMIT
    assert solution.num_steps == 1
