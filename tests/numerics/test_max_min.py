import itertools

import cvxpy as cp
import numpy as np
import pytest
import scipy.linalg

from gradbalance.numerics import Status, as_gramian, max_min, max_min_vector
from gradbalance.testing.families import FAMILIES

UNIT = np.finfo(np.float64).eps
RADII = (0.2, 0.5, 1.0, 2.0)

families = pytest.mark.parametrize("family", FAMILIES)


def draw(family, num_tasks, seed):
    return FAMILIES[family](np.random.default_rng([seed, num_tasks]), num_tasks)


def assert_certified(jac, radius):
    """The duality gap and the ball, from the rows themselves."""
    num_tasks = len(jac)
    center = np.full(num_tasks, 1 / num_tasks)
    found = max_min_vector(jac @ jac.T, center, radius=radius)
    assert found.certificate <= 1.0
    assert found.status in (Status.CONVERGED, Status.STATIONARY)
    multipliers = found.weights - center
    spread = np.abs(found.weights) @ np.linalg.norm(jac, axis=1)
    assert (multipliers >= -UNIT).all()
    offset, allowed = multipliers @ jac, radius * np.linalg.norm(center @ jac)
    assert np.linalg.norm(offset) <= allowed * (1 + 1e-9) + np.sqrt(10 * num_tasks * UNIT) * spread
    return found


@families
@pytest.mark.parametrize("radius", RADII)
def test_certifies_every_family(family, radius):
    for num_tasks, seed in itertools.product((1, 2, 3, 5, 8, 16, 32), range(4)):
        found = assert_certified(draw(family, num_tasks, seed), radius)
        assert found.num_steps <= 30


@pytest.mark.long
@families
@pytest.mark.parametrize("radius", [0.01, *RADII, 10.0])
def test_certifies_hundreds_of_draws(family, radius):
    for num_tasks in (1, 2, 3, 5, 8, 16, 32, 64, 128):
        for seed in range(100, 100 + max(5, 400 // num_tasks)):
            assert_certified(draw(family, num_tasks, seed), radius)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"mixture"}))  # that one underflows
@pytest.mark.parametrize("radius", RADII)
def test_stays_in_the_ball_where_rounding_has_made_the_gramian_indefinite(family, radius):
    for num_tasks, seed in itertools.product((3, 12), range(3)):
        jac = draw(family, num_tasks, seed).astype(np.float32)
        gram = as_gramian(jac @ jac.T)
        center = np.full(num_tasks, 1 / num_tasks)
        found = max_min_vector(gram, center, radius=radius)
        assert found.certificate <= 1.0
        assert found.status in (Status.CONVERGED, Status.STATIONARY)
        multipliers, norms = found.weights - center, np.sqrt(gram.diagonal())
        limit = radius**2 * max(center @ gram @ center, 0.0)
        rounding = 6 * num_tasks * UNIT * (np.abs(multipliers) @ norms) ** 2
        assert multipliers @ gram @ multipliers <= limit * (1 + 1e-9) + rounding
        # What the Gramian does not know is not covered by ever larger weights.
        multipliers, exact = np.longdouble(multipliers), np.longdouble(jac)
        size = np.linalg.norm((center @ exact).astype(float))
        reach = np.linalg.norm((multipliers @ exact).astype(float))
        blur = np.sqrt(num_tasks * np.finfo(np.float32).eps) * (center @ norms)
        assert reach <= 1.5 * radius * (size + blur)


@pytest.mark.parametrize("radius", [0.4, 1.0, 2.0])
def test_certifies_hilbert_matrices(radius):
    for num_tasks in (8, 16, 32, 64, 128):
        signs = (-1.0) ** np.arange(num_tasks)
        gram = scipy.linalg.hilbert(num_tasks) * np.outer(signs, signs)
        found = max_min_vector(gram, np.full(num_tasks, 1 / num_tasks), radius=radius)
        assert found.certificate <= 1.0
        assert found.num_steps <= 30


@pytest.mark.parametrize("max_scales", [1, 2])
def test_stays_in_the_ball_where_it_gives_up(monkeypatch, max_scales):
    monkeypatch.setattr(max_min, "_MAX_EXCHANGES", max_scales)
    monkeypatch.setattr(max_min, "_MAX_SCALES", max_scales)
    limited = 0
    for family, num_tasks, seed in itertools.product(FAMILIES, (3, 12), range(3)):
        jac = draw(family, num_tasks, seed)
        gram, center = as_gramian(jac @ jac.T), np.full(num_tasks, 1 / num_tasks)
        found = max_min_vector(gram, center, radius=2.0)
        limited += found.status is Status.STEP_LIMIT
        assert np.isfinite(found.weights).all()
        assert (found.weights >= center).all()
        offset = found.weights - center
        rounding = 6 * num_tasks * UNIT * (offset @ np.sqrt(gram.diagonal())) ** 2
        assert offset @ gram @ offset <= 4 * (1 + 1e-9) * (center @ gram @ center) + rounding
    assert limited > 0


@pytest.mark.parametrize("family", ["iid", "correlated", "rank_deficient", "overcomplete"])
@pytest.mark.parametrize("radius", RADII)
def test_agrees_with_clarabel_on_the_primal_problem(family, radius):
    for num_tasks, seed in itertools.product((3, 10), range(2)):
        jac = draw(family, num_tasks, seed)
        center = np.random.default_rng(seed).dirichlet(np.ones(num_tasks))
        mean = center @ jac
        vector, least = cp.Variable(jac.shape[1]), cp.Variable()
        ball = cp.norm(vector - mean) <= radius * np.linalg.norm(mean)
        problem = cp.Problem(cp.Maximize(least), [jac @ vector >= least, ball])
        value = problem.solve(solver=cp.CLARABEL)
        direction = max_min_vector(jac @ jac.T, center, radius=radius).weights @ jac
        size = np.linalg.norm(mean) * np.linalg.norm(jac, axis=1).max()
        assert (jac @ direction).min() == pytest.approx(value, abs=1e-6 * size)
        offset = np.linalg.norm(direction - mean)
        assert offset <= radius * np.linalg.norm(mean) * (1 + 1e-6)


@pytest.mark.parametrize("family", ["opposed", "overcomplete", "stationary"])
def test_agrees_with_clarabel_on_the_nearest_vector_where_rows_balance(family):
    for num_tasks, seed in itertools.product((3, 8), range(3)):
        jac = draw(family, num_tasks, seed)
        mean = jac.mean(axis=0)
        found = max_min_vector(jac @ jac.T, np.full(num_tasks, 1 / num_tasks), radius=1.5)
        if found.status is Status.STATIONARY:
            vector = cp.Variable(jac.shape[1])
            problem = cp.Problem(cp.Minimize(cp.sum_squares(vector - mean)), [jac @ vector >= 0])
            problem.solve(solver=cp.CLARABEL)
            size = np.linalg.norm(mean)
            np.testing.assert_allclose(found.weights @ jac, vector.value, atol=1e-6 * size)


@pytest.mark.parametrize("radius", [0.8, 1.0, 3.0])
def test_where_rows_balance_the_nearest_vector_that_lowers_no_product_is_taken(radius):
    # Two rows are opposed: only the part of the mean that is orthogonal to them is left.
    jac = np.array([[3.0, 0.0], [-1.0, 0.0], [0.0, 2.0]])
    found = max_min_vector(jac @ jac.T, np.full(3, 1 / 3), radius=radius)
    assert found.status is Status.STATIONARY
    np.testing.assert_allclose(found.weights @ jac, [0.0, 2 / 3], atol=1e-9)


def test_a_ball_too_small_to_reach_it_is_used_up():
    jac = np.array([[3.0, 0.0], [-1.0, 0.0], [0.0, 2.0]])
    found = max_min_vector(jac @ jac.T, np.full(3, 1 / 3), radius=0.5)
    mean = np.array([2 / 3, 2 / 3])
    expected = mean - [0.5 * np.linalg.norm(mean), 0.0]
    assert found.status is Status.CONVERGED
    np.testing.assert_allclose(found.weights @ jac, expected, rtol=1e-9)


def test_only_zero_is_left():
    jac = np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    for radius in (1.0, 1.5, 10.0):
        found = max_min_vector(jac @ jac.T, np.full(4, 0.25), radius=radius)
        assert np.linalg.norm(found.weights @ jac) <= 1e-12
        # Rows in float32 would not let large weights cancel.
        assert found.weights.max() <= 10.0
        assert found.status is Status.STATIONARY


def test_orthogonal_rows_by_hand():
    # d = (½, ½) + (0.5/√2)·(1, 1)/√2
    weights = max_min_vector(np.eye(2), [0.5, 0.5], radius=0.5).weights
    np.testing.assert_allclose(weights, [0.75, 0.75], rtol=1e-14)


def test_zero_rows_keep_the_weight_of_the_centre():
    found = max_min_vector(np.diag([1.0, 0.0, 1.0]), np.full(3, 1 / 3), radius=0.5)
    np.testing.assert_allclose(found.weights, [0.5, 1 / 3, 0.5], rtol=1e-14)


def test_a_radius_of_zero_and_a_mean_of_zero_leave_the_centre():
    center = np.array([0.5, 0.5])
    still = max_min_vector(np.eye(2), center, radius=0.0)
    assert (still.weights.tolist(), still.status) == ([0.5, 0.5], Status.CONVERGED)
    opposed = max_min_vector(np.array([[1.0, -1.0], [-1.0, 1.0]]), center, radius=0.5)
    assert (opposed.weights.tolist(), opposed.status) == ([0.5, 0.5], Status.STATIONARY)


def test_a_power_of_two_changes_no_bit():
    for family in ("iid", "spread_iid", "spread_condition_1e6"):
        jac = draw(family, 12, 0)
        gram, center = jac @ jac.T, np.full(12, 1 / 12)
        plain = max_min_vector(gram, center, radius=0.5)
        scaled = max_min_vector(np.ldexp(gram, 100), center, radius=0.5)
        np.testing.assert_array_equal(plain.weights, scaled.weights)


@pytest.mark.parametrize("family", ["iid", "correlated", "vertex"])
def test_takes_a_handful_of_steps_where_many_rows_can_be_exchanged_at_once(family):
    for seed, radius in itertools.product(range(10), RADII):
        jac = draw(family, 16, seed)
        found = max_min_vector(jac @ jac.T, np.full(16, 1 / 16), radius=radius)
        assert found.num_steps <= 6


@pytest.mark.parametrize("radius", [-0.1, np.inf, np.nan])
def test_a_radius_out_of_range_is_refused(radius):
    with pytest.raises(ValueError, match="radius must be"):
        max_min_vector(np.eye(2), [0.5, 0.5], radius=radius)
