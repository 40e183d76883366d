import itertools

import numpy as np
import pytest

from gradbalance.numerics import Status, min_norm_point
from gradbalance.testing.families import FAMILIES

METHODS = ("frank_wolfe", "away_steps")


def gramian(family, num_tasks, seed=0):
    jac = FAMILIES[family](np.random.default_rng([seed, num_tasks]), num_tasks)
    return jac @ jac.T


def norm_squared(gram, point):
    return point.weights @ gram @ point.weights


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tol", [1e-3, 1e-8])
def test_reaches_the_tolerance_or_says_not(method, family, tol):
    for num_tasks in (2, 3, 8):
        gram = gramian(family, num_tasks)
        point = min_norm_point(gram, method=method, tol=tol, max_steps=300)
        exact = min_norm_point(gram)
        assert (point.weights >= 0.0).all()
        assert abs(point.weights.sum() - 1.0) <= 1e-14
        assert (point.status is Status.STEP_LIMIT) == (point.certificate > 1.0)
        if point.status is not Status.STEP_LIMIT:
            spread = point.weights @ np.sqrt(gram.diagonal())
            excess = norm_squared(gram, point) - norm_squared(gram, exact)
            rounding = 4 * num_tasks * np.finfo(float).eps * spread**2
            assert excess <= 2 * tol * norm_squared(gram, point) + rounding


def test_frank_wolfe_first_step_by_hand():
    # From the mean (1, 1, 1)/3 of rows e₁, 2e₂, 3e₃: (Gw) = (1, 4, 9)/3, so towards row 1. There
    # ‖d‖² = (1 + 2γ)²/9 + 13(1 − γ)²/9 is least at 4(1 + 2γ) = 26(1 − γ), γ = 22/34.
    point = min_norm_point(np.diag([1.0, 4.0, 9.0]), method="frank_wolfe", max_steps=1)
    length = 22 / 34
    expected = [(1 + 2 * length) / 3, (1 - length) / 3, (1 - length) / 3]
    np.testing.assert_allclose(point.weights, expected, rtol=1e-14)


def test_away_steps_first_step_by_hand():
    # From row 1 of e₁, 2e₂, 3e₃ towards the first of two equally good rows: (0.8, 0.2).
    point = min_norm_point(np.diag([1.0, 4.0, 9.0]), method="away_steps", max_steps=1)
    np.testing.assert_allclose(point.weights, [0.8, 0.2, 0.0], rtol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_the_norm_never_rises(method):
    for family in ("iid", "spread_iid", "rank_deficient"):
        gram = gramian(family, 8)
        values = [
            norm_squared(gram, min_norm_point(gram, method=method, tol=0.0, max_steps=steps))
            for steps in range(30)
        ]
        assert (np.diff(values) <= 1e-14 * values[0]).all()


def test_away_steps_converge_linearly_where_frank_wolfe_does_not():
    for seed in range(5):
        gram = gramian("iid", 8, seed)
        away = min_norm_point(gram, method="away_steps")
        assert away.status is Status.CONVERGED
        np.testing.assert_allclose(away.weights, min_norm_point(gram).weights, atol=1e-5)
        towards = min_norm_point(gram, method="frank_wolfe", max_steps=away.num_steps)
        assert towards.status is Status.STEP_LIMIT


@pytest.mark.parametrize("method", METHODS)
def test_the_length_of_every_step_is_exact(method):
    for family, seed in itertools.product(("iid", "condition_1e6"), range(40)):
        gram = gramian(family, 5, seed)
        iterates = [
            min_norm_point(gram, method=method, tol=0.0, max_steps=steps) for steps in range(12)
        ]
        for last, point in itertools.pairwise(iterates):
            if point.num_steps == last.num_steps:
                break
            # Half the derivative of ‖d‖² along the step, at its end.
            slope = (point.weights - last.weights) @ gram @ point.weights
            if np.any((last.weights > 0.0) & (point.weights == 0.0)):  # cut off by the simplex
                assert slope <= 1e-13 * gram.max()
            else:
                assert abs(slope) <= 1e-13 * gram.max()


def test_a_row_stepped_away_from_is_left_entirely():
    num_left = 0
    for family, seed in itertools.product(("condition_1e6", "rank_deficient"), range(60)):
        gram = gramian(family, 5, seed)
        iterates = [
            min_norm_point(gram, method="away_steps", max_steps=steps).weights
            for steps in range(20)
        ]
        for last, weights in itertools.pairwise(iterates):
            num_left += np.any((last > 0.0) & (weights == 0.0)) and weights.max() < 1.0
            assert not np.any((weights != 0.0) & (weights < 1e-12))
    assert num_left >= 10


def test_default_limits_of_steps():
    gram = gramian("spread_iid", 20)
    towards = min_norm_point(gram, method="frank_wolfe")
    away = min_norm_point(gram, method="away_steps", tol=0.0)
    assert towards.num_steps == 250
    assert away.num_steps == 100 * 20 + 1000
    for point in (towards, away):
        assert abs(point.weights.sum() - 1.0) <= 2 * np.finfo(float).eps
