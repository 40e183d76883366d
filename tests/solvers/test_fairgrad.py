import numpy as np
import pytest

import gradbalance as gb

JAC = np.array([[3.0, 0.0, 1.0], [-1.0, 2.0, 0.0], [0.5, 0.5, -4.0]])
PROBLEM = gb.Problem.of(JAC @ JAC.T)


def unit(weights):
    direction = weights @ JAC
    return direction / np.linalg.norm(direction)


def test_two_tasks_by_hand():
    # α = 2: w = G^(−2/3);  α = 1/2: w = G^(−1/3)
    problem = gb.Problem.of([[1.0, 0.0], [0.0, 8.0]])
    np.testing.assert_allclose(gb.FairGrad(alpha=2.0).solve(problem).weights, [1, 0.25], rtol=1e-14)
    np.testing.assert_allclose(gb.FairGrad(alpha=0.5).solve(problem).weights, [1, 0.5], rtol=1e-14)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 2.0, 5.0, 10.0])
def test_decreases_solve_the_equation_of_the_paper(alpha):
    preferences = [1.0, 2.0, 0.5]
    solution = gb.FairGrad(alpha=alpha, preferences=preferences).solve(PROBLEM)
    descent = PROBLEM.gramian @ solution.weights
    np.testing.assert_allclose(descent * solution.weights ** (1 / alpha), preferences, rtol=1e-8)
    assert (descent > 0).all()


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
def test_no_direction_is_fairer(alpha):
    preferences = np.array([1.0, 2.0, 0.5])

    def utility(decreases):
        if alpha == 1:
            return np.log(decreases) @ preferences
        return decreases ** (1 - alpha) / (1 - alpha) @ preferences**alpha

    direction = unit(gb.FairGrad(alpha=alpha, preferences=preferences).solve(PROBLEM).weights)
    others = np.random.default_rng(0).standard_normal((20_000, 3))
    decreases = others @ JAC.T / np.linalg.norm(others, axis=1)[:, None]
    decreases = decreases[(decreases > 0).all(axis=1)]
    assert len(decreases) > 100
    assert utility(decreases).max() <= utility(JAC @ direction)


def test_alpha_one_is_nash_mtl():
    expected = gb.NashMTL().solve(PROBLEM).weights
    np.testing.assert_array_equal(gb.FairGrad().solve(PROBLEM).weights, expected)


def test_a_large_alpha_tends_to_mgda():
    shortest = unit(gb.MGDA().solve(PROBLEM).weights)
    cosines = [unit(gb.FairGrad(alpha=a).solve(PROBLEM).weights) @ shortest for a in (1, 10, 100)]
    assert cosines[0] < cosines[1] < cosines[2]
    assert cosines[2] > 0.9999


def test_a_small_alpha_tends_to_the_largest_sum_of_decreases():
    jac = np.array([[3.0, 0.0], [1.0, 1.0]])  # no conflict: the sum itself is that direction
    weights = gb.FairGrad(alpha=0.01).solve(gb.Problem.of(jac @ jac.T)).weights
    np.testing.assert_allclose(weights, 1.0, rtol=0.05)


def test_a_larger_alpha_serves_the_worst_off_more():
    worst = [
        (JAC @ unit(gb.FairGrad(alpha=a).solve(PROBLEM).weights)).min() for a in (0.5, 1, 2, 5)
    ]
    assert worst == sorted(worst)
    assert worst[0] < worst[-1]


def test_tiny_and_huge_gradients_are_both_solved():
    # Least squares on the equation as it stands, from uniform weights, leaves rows like these.
    jac = JAC * np.array([[1e-3], [1.0], [1e3]])
    for alpha in (0.5, 1.0, 2.0, 5.0):
        weights = gb.FairGrad(alpha=alpha).solve(gb.Problem.of(jac @ jac.T)).weights
        descent = jac @ (weights @ jac)
        np.testing.assert_allclose(descent * weights ** (1 / alpha), 1.0, rtol=1e-8)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
def test_opposed_gradients_are_told_and_keep_the_weights_bounded(alpha):
    jac = np.array([[1.0, 0.0], [-3.0, 0.0], [0.0, 1.0]])
    solution = gb.FairGrad(alpha=alpha).solve(gb.Problem.of(jac @ jac.T))
    assert solution.status is gb.Status.STATIONARY
    np.testing.assert_allclose(solution.weights, [1.5, 0.5, 0.0], atol=1e-6)


def test_alpha_zero_is_refused_with_what_to_use():
    with pytest.raises(ValueError, match=r"use Uniform\(\)"):
        gb.FairGrad(alpha=0.0)
