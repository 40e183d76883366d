import numpy as np
import pytest

import gradbalance as gb
from gradbalance.testing.families import FAMILIES
from gradbalance.testing.properties import products_and_rounding


def test_two_orthogonal_gradients_by_hand():
    # g₁ = (1, 0), g₂ = (0, 2), g₀ = (½, 1): u minimises u₁/2 + 2u₂ + c‖g₀‖‖g_u‖.
    problem = gb.Problem.of([[1.0, 0.0], [0.0, 4.0]])
    solution = gb.CAGrad(c=0.5).solve(problem)
    grid = np.linspace(0, 1, 1_000_001)
    radius = 0.5 * np.sqrt(1.25)
    values = 0.5 * grid + 2 * (1 - grid) + radius * np.hypot(grid, 2 * (1 - grid))
    best = grid[values.argmin()]
    inner = np.array([best, 1 - best])
    expected = 0.5 + radius * inner / np.hypot(best, 2 * (1 - best))
    np.testing.assert_allclose(solution.weights, expected, atol=1e-5)


def test_without_a_ball_it_is_the_mean():
    jac = np.random.default_rng(0).standard_normal((5, 9))
    assert gb.CAGrad(c=0.0).solve(gb.Problem.of(jac @ jac.T)).weights.tolist() == [0.2] * 5


def test_in_a_large_ball_the_direction_is_mgdas():
    jac = np.random.default_rng(1).standard_normal((4, 9))
    problem = gb.Problem.of(jac @ jac.T)
    far = gb.CAGrad(c=1e6).solve(problem).weights @ jac
    shortest = gb.MGDA().solve(problem).weights @ jac
    cosine = far @ shortest / np.linalg.norm(far) / np.linalg.norm(shortest)
    assert cosine == pytest.approx(1.0, abs=1e-9)


def test_rescale_divides_by_one_plus_c_squared():
    jac = np.random.default_rng(2).standard_normal((4, 9))
    problem = gb.Problem.of(jac @ jac.T)
    plain = gb.CAGrad(c=0.4).solve(problem).weights
    np.testing.assert_allclose(gb.CAGrad(c=0.4, rescale=True).solve(problem).weights, plain / 1.16)


def test_preferences_move_the_centre():
    jac = np.random.default_rng(3).standard_normal((3, 9))
    problem = gb.Problem.of(jac @ jac.T, names="abc")
    solver = gb.CAGrad(c=0.3, preferences={"a": 2.0, "b": 1.0, "c": 1.0})
    center = np.array([0.5, 0.25, 0.25])
    offset = (solver.solve(problem).weights - center) @ jac
    assert np.linalg.norm(offset) == pytest.approx(0.3 * np.linalg.norm(center @ jac), rel=1e-9)


@pytest.mark.parametrize("c", [0.1, 0.5, 0.9])
def test_the_mean_loss_falls_for_c_below_1(c):
    rng = np.random.default_rng(4)
    for _ in range(50):
        jac = rng.standard_normal((6, 4))
        direction = gb.CAGrad(c=c).solve(gb.Problem.of(jac @ jac.T)).weights @ jac
        assert jac.mean(axis=0) @ direction > 0


def test_short_gradients_are_not_sacrificed():
    rng = np.random.default_rng(5)
    for _ in range(50):
        jac = rng.standard_normal((4, 6)) * 10.0 ** rng.uniform(-3, 3, (4, 1))
        direction = gb.CAGrad(c=1.0).solve(gb.Problem.of(jac @ jac.T)).weights @ jac
        cosines = jac @ direction / np.linalg.norm(jac, axis=1) / np.linalg.norm(direction)
        assert cosines.min() >= -1e-9


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_no_loss_rises_along_the_direction_of_a_ball_that_touches_zero(family):
    """There ‖g₀‖ decides about the sign, and rounding of G about ‖g₀‖."""
    for seed in range(1000):
        rng = np.random.default_rng((seed, 77))
        jac = FAMILIES[family](rng, int(rng.integers(2, 13)))
        problem = gb.Problem.of(jac @ jac.T)
        weights = gb.CAGrad(c=1.0).solve(problem).weights
        products, rounding = products_and_rounding(problem.gramian, weights)
        length = np.sqrt(max(problem.gramian.mean(), 0.0))
        if length > 0:
            rounding *= 1 + 10 * np.sqrt(np.diagonal(problem.gramian)).mean() / length
        assert (products >= -rounding - 1e-10 * abs(weights @ products)).all()
