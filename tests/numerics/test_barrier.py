import itertools

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradbalance.numerics import Status, barrier_point, min_norm_point
from gradbalance.numerics.damped_newton import damped_newton
from gradbalance.testing.families import FAMILIES

UNIT = np.finfo(np.float64).eps
ALPHAS = (0.5, 1.0, 2.0, 5.0)
REGULAR = ("iid", "correlated", "rank_deficient", "vertex", "spread_iid", "spread_correlated")

families = pytest.mark.parametrize("family", FAMILIES)
alphas = pytest.mark.parametrize("alpha", ALPHAS)
draws = st.tuples(st.sampled_from(sorted(FAMILIES)), st.integers(1, 12), st.integers(0, 2**32))


def draw(family, num_tasks, seed):
    return FAMILIES[family](np.random.default_rng([seed, num_tasks]), num_tasks)


def relative_rounding(jac, weights, power=1.0, preferences=1.0):
    """What rounding the entries of G does to each row of (Gw)_i w_i^power / p_i."""
    norms = np.linalg.norm(jac, axis=1)
    return len(jac) * UNIT * (weights @ norms) * norms * weights**power / preferences


def residuals(jac, weights, power=1.0, preferences=1.0):
    """|(Gw)_i w_i^power / p_i − 1| from the rows, in extended precision where there is one."""
    jac, weights = jac.astype(np.longdouble), weights.astype(np.longdouble)
    return np.abs(jac @ (weights @ jac) * weights**power / preferences - 1).astype(float)


def assert_solved(jac, point, power=1.0, preferences=1.0):
    """A solution row by row where there is one, a direction of length zero where there is none."""
    weights, norms = point.weights, np.linalg.norm(jac, axis=1)
    assert np.isfinite(weights).all()
    assert point.certificate <= 1.0
    if point.status is Status.STATIONARY:
        assert (weights >= 0.0).all()
        norms = np.where(norms > 0.0, norms, 1.0)
        assert weights @ norms == pytest.approx(len(jac))
        assert np.linalg.norm(weights @ jac) <= 2 * np.sqrt(len(jac) * UNIT) * (weights @ norms)
    else:
        assert point.status is Status.CONVERGED
        assert (weights > 0.0).all()
        allowed = 2e-10 + 3 * relative_rounding(jac, weights, power, preferences)
        assert (residuals(jac, weights, power, preferences) <= allowed).all()


def cosines_of(jac):
    norms = np.linalg.norm(jac, axis=1)
    rows = jac / np.where(norms > 0.0, norms, 1.0)[:, None]
    return rows @ rows.T


@alphas
@families
def test_every_family_is_solved(family, alpha):
    for num_tasks in (1, 2, 3, 5, 8, 32, 128):
        for seed in range(max(1, 12 // num_tasks)):
            jac = draw(family, num_tasks, seed)
            assert_solved(jac, barrier_point(jac @ jac.T, power=1 / alpha), 1 / alpha)


@pytest.mark.long
@pytest.mark.parametrize("alpha", [0.1, *ALPHAS, 10.0])
@families
def test_thousands_of_draws_are_solved(family, alpha):
    for num_tasks in (1, 2, 3, 5, 8, 16, 32, 64, 128):
        for seed in range(100, 100 + max(3, 400 // num_tasks)):
            jac = draw(family, num_tasks, seed)
            assert_solved(jac, barrier_point(jac @ jac.T, power=1 / alpha), 1 / alpha)


@alphas
@pytest.mark.parametrize("family", REGULAR)
def test_rows_hold_to_1e_8_away_from_stationary_points(family, alpha):
    for num_tasks, seed in itertools.product((2, 8, 32), range(5)):
        jac = draw(family, num_tasks, seed)
        point = barrier_point(jac @ jac.T, power=1 / alpha)
        assert point.status is Status.CONVERGED
        assert residuals(jac, point.weights, 1 / alpha).max() <= 1e-8


@alphas
@families
def test_any_preferences_are_solved(family, alpha):
    for num_tasks in (1, 2, 3, 8, 32):
        jac = draw(family, num_tasks, 7)
        preferences = 10.0 ** np.random.default_rng(num_tasks).uniform(-2, 2, num_tasks)
        point = barrier_point(jac @ jac.T, power=1 / alpha, preferences=preferences)
        assert_solved(jac, point, 1 / alpha, preferences)


@families
def test_there_is_a_solution_where_the_min_norm_point_is_not_zero(family):
    for num_tasks, alpha in itertools.product((2, 3, 8, 32), ALPHAS):
        jac = draw(family, num_tasks, 3)
        point = barrier_point(jac @ jac.T, power=1 / alpha)
        shortest = min_norm_point(cosines_of(jac))
        near = 1e-16 <= shortest.weights @ cosines_of(jac) @ shortest.weights / num_tasks <= 1e-15
        if not near:  # there rounding may decide either way
            assert point.status is shortest.status


@alphas
@pytest.mark.parametrize("family", ["stationary", "zero_rows", "opposed", "spread_opposed"])
def test_without_a_solution_the_status_says_so(family, alpha):
    for num_tasks, seed in itertools.product((2, 3, 8, 32), range(5)):
        jac = draw(family, num_tasks, seed)
        point = barrier_point(jac @ jac.T, power=1 / alpha)
        assert point.status is Status.STATIONARY
        assert_solved(jac, point)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"mixture"}))  # that one underflows
def test_gramians_that_are_indefinite_by_float32_rounding_are_solved(family):
    for num_tasks, seed, alpha in itertools.product((3, 10), range(3), (0.5, 1.0, 5.0)):
        jac = draw(family, num_tasks, seed).astype(np.float32)
        gram = (jac @ jac.T).astype(np.float64)
        point = barrier_point(gram, power=1 / alpha)
        assert point.status in (Status.CONVERGED, Status.STATIONARY)
        assert point.certificate <= 1.0


@pytest.mark.parametrize("alpha", [0.5, 0.8, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("family", ["iid", "correlated", "rank_deficient", "duplicated"])
def test_agrees_with_clarabel(family, alpha):
    for num_tasks, seed in itertools.product((3, 8), range(2)):
        jac = draw(family, num_tasks, seed)
        jac = jac / np.linalg.norm(jac, axis=1).max()
        preferences = np.random.default_rng(seed).uniform(0.5, 2.0, num_tasks)
        weights = cp.Variable(num_tasks)
        if alpha == 1.0:
            utility = cp.log(weights)
        else:
            utility = cp.power(weights, 1 - 1 / alpha) / (1 - 1 / alpha)
        loss = cp.sum_squares(jac.T @ weights) / 2 - preferences @ utility
        cp.Problem(cp.Minimize(loss)).solve(solver=cp.CLARABEL)
        ours = barrier_point(jac @ jac.T, power=1 / alpha, preferences=preferences).weights
        np.testing.assert_allclose(ours, weights.value, rtol=1e-3, atol=1e-4 * ours.max())
        assert np.sum((ours @ jac) ** 2) == pytest.approx(
            np.sum((weights.value @ jac) ** 2), rel=1e-4
        )


@alphas
def test_one_task_in_closed_form(alpha):
    # G w = p w^(−1/α)
    point = barrier_point(np.array([[4.0]]), power=1 / alpha, preferences=[3.0])
    np.testing.assert_allclose(point.weights, [0.75 ** (alpha / (1 + alpha))], rtol=1e-14)


@pytest.mark.parametrize("cosine", [-0.999999, -0.5, 0.0, 0.9, 1.0])
def test_two_tasks_in_closed_form(cosine):
    norms = np.array([1e-3, 1e3])
    gram = np.array([[1.0, cosine], [cosine, 1.0]]) * np.outer(norms, norms)
    point = barrier_point(gram)
    np.testing.assert_allclose(point.weights, 1 / (norms * np.sqrt(1 + cosine)), rtol=1e-9)


@alphas
def test_equal_rows_in_closed_form(alpha):
    # T·w = w^(−1/α)
    weights = barrier_point(np.ones((5, 5)), power=1 / alpha).weights
    np.testing.assert_allclose(weights, 5.0 ** (-alpha / (1 + alpha)), rtol=1e-10)


@given(draws, st.sampled_from(ALPHAS))
@settings(max_examples=100, deadline=None)
def test_every_step_goes_downhill(drawn, alpha):
    jac, power = draw(*drawn), 1 / alpha
    gram = cosines_of(jac)
    if gram.diagonal().min() == 0.0:
        return
    units = 10.0 ** np.random.default_rng(drawn[2]).uniform(-2, 0, len(gram))

    def objective(x):
        y = x / units
        barrier = np.log(y) if power == 1 else y ** (1 - power) / (1 - power)
        return x @ gram @ x / 2 - units**2 @ barrier, x @ gram @ x / 2 + units**2 @ np.abs(barrier)

    x = units
    for _ in range(30):
        step = damped_newton(gram, x, units, power, 1e-10, 1, stop_in_doubt=True)
        (before, size), (after, _) = objective(x), objective(step.x)
        rounding = len(gram) * UNIT * max(x.sum(), step.x.sum()) ** 2 + 100 * UNIT * size
        assert after <= before + rounding
        x = step.x
        if step.worst <= 1.0 or step.in_doubt:
            break


@given(draws, st.sampled_from(ALPHAS), st.integers(-100, 100))
@settings(max_examples=100, deadline=None)
def test_scale_moves_the_weights_by_a_power(drawn, alpha, log_scale):
    jac = draw(*drawn)
    jac /= max(np.abs(jac).max(), 1e-300)
    gram = jac @ jac.T
    plain = barrier_point(gram, power=1 / alpha)
    scaled = barrier_point(np.ldexp(gram, 2 * log_scale), power=1 / alpha)
    assert scaled.status is plain.status
    if plain.status is Status.CONVERGED:
        rounding = relative_rounding(jac, plain.weights, 1 / alpha).max()
        if rounding <= 1e-9:
            expected = plain.weights * 4.0 ** (-log_scale * alpha / (1 + alpha))
            np.testing.assert_allclose(scaled.weights, expected, rtol=1e-6)


@given(draws, st.sampled_from(ALPHAS))
@settings(max_examples=100, deadline=None)
def test_the_order_of_tasks_does_not_matter(drawn, alpha):
    jac = draw(*drawn)
    order = np.random.default_rng(drawn[2]).permutation(len(jac))
    plain = barrier_point(jac @ jac.T, power=1 / alpha)
    permuted = barrier_point((jac @ jac.T)[order][:, order], power=1 / alpha)
    if plain.status is Status.CONVERGED is permuted.status:
        rounding = relative_rounding(jac, plain.weights, 1 / alpha).max()
        if rounding <= 1e-9:
            np.testing.assert_allclose(permuted.weights, plain.weights[order], rtol=1e-5)


def test_the_norms_of_rows_do_not_matter_for_power_one():
    jac = draw("iid", 6, 0)
    norms = 10.0 ** np.linspace(-6, 6, 6)
    plain = barrier_point(jac @ jac.T).weights
    scaled = barrier_point((jac @ jac.T) * np.outer(norms, norms)).weights
    np.testing.assert_allclose(scaled * norms, plain, rtol=1e-9)


@pytest.mark.parametrize("num_tasks", [1, 2, 5])
def test_all_rows_zero_share_the_weight(num_tasks):
    point = barrier_point(np.zeros((num_tasks, num_tasks)))
    assert point.weights.tolist() == [1.0] * num_tasks
    assert point.status is Status.STATIONARY


def test_zero_rows_share_the_weight():
    point = barrier_point(np.diag([1.0, 0.0, 2.0, 0.0]))
    assert point.weights.tolist() == [0.0, 2.0, 0.0, 2.0]
    assert point.status is Status.STATIONARY


@alphas
@pytest.mark.parametrize("family", REGULAR)
def test_takes_few_steps(family, alpha):
    for num_tasks, seed in itertools.product((2, 8, 16), range(5)):
        jac = draw(family, num_tasks, seed)
        limit = {0.5: 8, 1.0: 8, 2.0: 12, 5.0: 24}[alpha]
        assert barrier_point(jac @ jac.T, power=1 / alpha).num_steps <= limit


@pytest.mark.parametrize(
    ("family", "num_tasks", "seed", "alpha"),
    [
        ("cancelling", 8, 0, 1.0),  # a common factor was taken over and over, in tiny bits
        (
            "spread_near_stationary",
            3,
            212,
            1.0,
        ),  # whether xᵀGx is zero was decided twice, differently
        ("cancelling", 5, 47, 5.0),  # ... or from a value that is mostly noise
        ("cancelling", 3, 2, 10.0),  # correcting rounding in two rows unsettled the third
        ("cancelling", 3, 0, 10.0),  # 1 + length·changes was lost to cancellation
    ],
)
def test_rounding_does_not_keep_it_from_ending(family, num_tasks, seed, alpha):
    jac = draw(family, num_tasks, seed)
    point = barrier_point(jac @ jac.T, power=1 / alpha)
    assert_solved(jac, point, 1 / alpha)
    assert point.num_steps <= 100


def test_weights_that_underflow_do_not_keep_it_from_ending():
    # (Gw)_2 = 1000·(Gw)_1 needs w_2 = 1000^(−150)·w_1.
    point = barrier_point(np.array([[1.0, 1e3], [1e3, 1e6 + 1.0]]), power=1 / 150)
    assert point.status is Status.CONVERGED
    np.testing.assert_allclose(point.weights, [1.0, 0.0], atol=1e-200)


def test_too_few_steps_are_told():
    jac = draw("condition_1e6", 30, 0)
    point = barrier_point(jac @ jac.T, max_steps=1)
    assert point.status is Status.STEP_LIMIT
    assert point.num_steps == 1
    assert point.certificate > 1.0


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"power": 0.0}, "power must be a number in"),
        ({"power": float("inf")}, "power must be a number in"),
        ({"tol": -1e-3}, "tol must be a number in"),
        ({"tol": float("nan")}, "tol must be a number in"),
        ({"max_steps": -1}, "max_steps must be an integer of at least 0"),
        ({"preferences": [1.0, 1.0]}, "preferences must be 3"),
        ({"preferences": [1.0, 0.0, 1.0]}, "preferences must be 3"),
    ],
)
def test_options_out_of_range(options, match):
    with pytest.raises(ValueError, match=match):
        barrier_point(np.eye(3), **options)
