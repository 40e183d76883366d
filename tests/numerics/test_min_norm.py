import itertools
from typing import get_args, get_type_hints

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradbalance.numerics import Status, as_gramian, min_norm_point
from gradbalance.testing.families import FAMILIES

UNIT = np.finfo(np.float64).eps
CERTIFIED = (Status.CONVERGED, Status.STATIONARY)
SIZES = (1, 2, 3, 5, 8, 16, 32, 64, 128, 256)

families = pytest.mark.parametrize("family", FAMILIES)
draws = st.tuples(st.sampled_from(sorted(FAMILIES)), st.integers(1, 12), st.integers(0, 2**32))


def solve(gram, **options):
    return min_norm_point(as_gramian(gram), **options)


def draw(family, num_tasks, seed):
    return FAMILIES[family](np.random.default_rng([seed, num_tasks]), num_tasks)


def worst_ratio(jac, weights, tol=1e-10):
    """The certificate from the rows themselves, in extended precision where the platform has it."""
    jac, weights = jac.astype(np.longdouble), weights.astype(np.longdouble)
    norms = np.sqrt((jac**2).sum(axis=1))
    direction = weights @ jac
    val, products = direction @ direction, jac @ direction
    spread = weights @ norms
    allowed = tol * val + len(jac) * UNIT * spread * np.maximum(norms, spread)
    gaps = val - products
    return float(np.max(np.where(gaps > 0, gaps, 0) / np.where(allowed > 0, allowed, 1)))


def assert_certified(jac, point):
    assert point.status in CERTIFIED
    assert point.certificate <= 1.0
    assert point.weights.dtype == np.float64
    assert (point.weights >= 0.0).all()
    assert abs(point.weights.sum() - 1.0) <= 4 * UNIT
    # The Gramian that was passed has been rounded, which is allowed for a second time.
    assert worst_ratio(jac, point.weights) <= 2.0


def by_enumeration(jac):
    """The best feasible point among the minimisers over the affine hulls of all subsets."""
    best_weights, best_norm = None, np.inf
    for size in range(1, len(jac) + 1):
        for subset in itertools.combinations(range(len(jac)), size):
            rows = jac[list(subset)]
            differences = (rows[1:] - rows[0]).T
            inner = np.linalg.lstsq(differences, -rows[0], rcond=None)[0] if size > 1 else []
            weights = np.zeros(len(jac))
            weights[list(subset)] = [1.0 - np.sum(inner), *inner]
            weights = np.maximum(weights, 0.0)
            if weights.sum() > 0.0:
                weights /= weights.sum()
                norm = np.linalg.norm(weights @ jac)
                if norm < best_norm:
                    best_weights, best_norm = weights, norm
    return best_weights


@families
@pytest.mark.parametrize("num_tasks", SIZES)
def test_certifies_every_family(family, num_tasks):
    for seed in range(max(1, 64 // num_tasks)):
        jac = draw(family, num_tasks, seed)
        assert_certified(jac, solve(jac @ jac.T))


@pytest.mark.long
@families
@pytest.mark.parametrize("num_tasks", SIZES)
def test_certifies_thousands_of_draws(family, num_tasks):
    for seed in range(100, 100 + max(20, 8000 // num_tasks)):
        jac = draw(family, num_tasks, seed)
        assert_certified(jac, solve(jac @ jac.T))


@families
@pytest.mark.parametrize("log_scale", [-30, 30])
def test_certifies_at_any_scale(family, log_scale):
    for num_tasks in (3, 10):
        jac = draw(family, num_tasks, 0)
        point = solve(10.0**log_scale * (jac @ jac.T))
        assert_certified(jac, point)


@families
def test_certifies_without_a_relative_tolerance(family):
    for num_tasks in (3, 10):
        jac = draw(family, num_tasks, 1)
        point = solve(jac @ jac.T, tol=0.0)
        assert point.status in CERTIFIED
        assert worst_ratio(jac, point.weights, tol=0.0) <= 2.0


@families
def test_certifies_norms_spread_over_24_orders(family):
    for num_tasks in (3, 10):
        jac = draw(family, num_tasks, 2)
        jac = jac * 10.0 ** np.random.default_rng(num_tasks).uniform(-12, 12, (num_tasks, 1))
        assert_certified(jac, solve(jac @ jac.T))


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"mixture"}))  # that one underflows
def test_solves_gramians_that_are_indefinite_by_float32_rounding(family):
    for num_tasks, seed in itertools.product((3, 10, 20), range(5)):
        jac = draw(family, num_tasks, seed).astype(np.float32)
        point = solve(jac @ jac.T)
        assert point.status in CERTIFIED
        assert point.certificate <= 1.0


@families
def test_no_point_of_any_support_is_shorter(family):
    for num_tasks, seed in itertools.product(range(1, 7), range(4)):
        jac = draw(family, num_tasks, seed)
        weights = solve(jac @ jac.T).weights
        reference = by_enumeration(jac)
        norms = np.linalg.norm(jac, axis=1)
        rounding = 2 * num_tasks * UNIT * (weights @ norms) ** 2
        excess = np.sum((weights @ jac) ** 2) - np.sum((reference @ jac) ** 2)
        assert excess <= 1e-10 * np.sum((reference @ jac) ** 2) + rounding


@pytest.mark.parametrize("family", ["iid", "correlated", "spread_iid", "spread_correlated"])
def test_weights_equal_the_enumerated_ones_where_they_are_unique(family):
    for num_tasks, seed in itertools.product(range(2, 7), range(10)):
        jac = draw(family, num_tasks, seed)
        expected = by_enumeration(jac)
        np.testing.assert_allclose(solve(jac @ jac.T).weights, expected, atol=1e-9)


@pytest.mark.parametrize("family", [f for f in FAMILIES if "spread" not in f and f != "mixture"])
def test_agrees_with_clarabel(family):
    for num_tasks, seed in itertools.product((3, 12), range(2)):
        jac = draw(family, num_tasks, seed)
        norms = np.linalg.norm(jac, axis=1)
        unit = max(norms.max(), 1e-30)
        weights = cp.Variable(num_tasks, nonneg=True)
        problem = cp.Problem(
            cp.Minimize(cp.sum_squares((jac / unit).T @ weights)), [cp.sum(weights) == 1]
        )
        value = problem.solve(solver=cp.CLARABEL)
        ours = np.sum((solve(jac @ jac.T).weights @ jac / unit) ** 2)
        assert ours == pytest.approx(value, rel=1e-5, abs=1e-8)


@given(draws, st.integers(-300, 300))
@settings(max_examples=100, deadline=None)
def test_a_power_of_two_changes_no_bit(drawn, exponent):
    jac = draw(*drawn)
    jac /= max(np.abs(jac).max(), 1e-300)
    jac[np.abs(jac) < 1e-60] = 0.0  # else a Gramian times 2^-300 is subnormal
    gram = jac @ jac.T
    plain, scaled = solve(gram), solve(np.ldexp(gram, exponent))
    np.testing.assert_array_equal(plain.weights, scaled.weights)
    assert plain.certificate == scaled.certificate
    assert plain.status is scaled.status


def assert_same_point(jac, weights, others):
    """Equal norms, and equal points as far as the norm's rounding lets one say."""
    norms = np.linalg.norm(jac, axis=1)
    spread = max(weights @ norms, others @ norms)
    val = max(np.sum((weights @ jac) ** 2), np.sum((others @ jac) ** 2))
    # Of two points within a gap of the optimum, ‖x − y‖² is at most four gaps.
    gap = 1e-10 * val + 2 * len(jac) * UNIT * spread**2
    assert np.sum(((weights - others) @ jac) ** 2) <= 4 * gap


@given(draws)
@settings(max_examples=150, deadline=None)
def test_the_order_of_tasks_does_not_matter(drawn):
    jac = draw(*drawn)
    order = np.random.default_rng(drawn[2]).permutation(len(jac))
    others = np.empty(len(jac))
    others[order] = solve((jac @ jac.T)[order][:, order]).weights
    assert_same_point(jac, solve(jac @ jac.T).weights, others)


@given(draws)
@settings(max_examples=150, deadline=None)
def test_a_task_given_twice_changes_nothing(drawn):
    jac = draw(*drawn)
    twice = np.append(np.arange(len(jac)), drawn[2] % len(jac))
    others = solve((jac @ jac.T)[twice][:, twice]).weights
    others[drawn[2] % len(jac)] += others[-1]
    assert_same_point(jac, solve(jac @ jac.T).weights, others[:-1])


@given(draws, st.sampled_from(["active_set", "frank_wolfe", "away_steps"]), st.integers(0, 30))
@settings(max_examples=150, deadline=None)
def test_reported_certificate_is_that_of_the_reported_weights(drawn, method, max_steps):
    jac = draw(*drawn)
    gram = jac @ jac.T
    point = solve(gram, method=method, max_steps=max_steps, tol=1e-6)
    assert (point.weights >= 0.0).all()
    assert abs(point.weights.sum() - 1.0) <= 1e-14
    norms = np.sqrt(gram.diagonal())
    spread = point.weights @ norms
    gaps = point.weights @ gram @ point.weights - gram @ point.weights
    allowed = 1e-6 * max(point.weights @ gram @ point.weights, 0.0)
    allowed = allowed + len(gram) * UNIT * spread * np.maximum(norms, spread)
    expected = np.max(gaps / np.where(allowed > 0.0, allowed, 1.0))
    assert point.certificate == pytest.approx(expected, rel=1e-6, abs=0.5)
    assert (point.status is Status.STEP_LIMIT) == (point.certificate > 1.0)
    assert point.num_steps <= max_steps


def test_one_task_has_all_the_weight():
    point = solve([[3.0]])
    assert point.weights.tolist() == [1.0]
    assert point.status is Status.CONVERGED


def test_two_tasks_by_hand():
    # g₁ = (1, 0) and g₂ = (0, 2): the foot of the origin on the line between them.
    np.testing.assert_allclose(solve([[1, 0], [0, 4]]).weights, [0.8, 0.2], rtol=1e-15)
    # g₁ = (1, 0) and g₂ = (2, 1): the angle at g₁ is obtuse.
    assert solve([[1, 2], [2, 5]]).weights.tolist() == [1.0, 0.0]
    assert solve([[5, 2], [2, 1]]).weights.tolist() == [0.0, 1.0]


def test_two_tasks_keep_a_small_weight_accurate():
    # Orthogonal rows of norms 1e3 and 1e-3: w ∝ (1e-6, 1e6).
    weights = solve([[1e6, 0.0], [0.0, 1e-6]]).weights
    np.testing.assert_allclose(weights, [1e-12, 1.0], rtol=1e-11)


def test_three_orthogonal_tasks_keep_a_small_weight_accurate():
    weights = solve(np.diag([1e6, 1.0, 1e-6])).weights
    expected = np.array([1e-6, 1.0, 1e6]) / (1e-6 + 1.0 + 1e6)
    np.testing.assert_allclose(weights, expected, rtol=1e-9)


@pytest.mark.parametrize("num_tasks", [2, 3, 7])
def test_identical_tasks(num_tasks):
    point = solve(np.full((num_tasks, num_tasks), 2.0))
    assert point.status is Status.CONVERGED
    assert (point.weights >= 0.0).all()
    assert point.weights.sum() == pytest.approx(1.0, abs=4 * UNIT)


@pytest.mark.parametrize("method", ["active_set", "frank_wolfe", "away_steps"])
def test_zero_rows_share_the_weight(method):
    point = solve(np.diag([1.0, 0.0, 2.0, 0.0]), method=method)
    assert point.weights.tolist() == [0.0, 0.5, 0.0, 0.5]
    assert point.status is Status.STATIONARY
    assert point.certificate == 0.0


@pytest.mark.parametrize("num_tasks", [1, 2, 5])
def test_all_rows_zero_is_uniform_and_stationary(num_tasks):
    point = solve(np.zeros((num_tasks, num_tasks)))
    assert point.weights.tolist() == [1.0 / num_tasks] * num_tasks
    assert point.status is Status.STATIONARY


def test_opposed_rows_are_stationary():
    jac = np.array([[3.0, 0.0, 0.0], [-0.1, 0.0, 0.0], [1.0, 1.0, 1.0]])
    point = solve(jac @ jac.T)
    assert point.status is Status.STATIONARY
    np.testing.assert_allclose(point.weights, [0.1 / 3.1, 3.0 / 3.1, 0.0], atol=1e-7)


@pytest.mark.parametrize(("log_norm", "status"), [(-9, "STATIONARY"), (-6, "CONVERGED")])
def test_stationary_begins_where_a_gramian_cannot_tell_the_norm_from_zero(log_norm, status):
    rng = np.random.default_rng(3)
    for _ in range(20):
        jac = rng.standard_normal((5, 20))
        jac -= jac.mean(axis=0)
        jac += 10.0**log_norm * rng.standard_normal(20)
        assert solve(jac @ jac.T).status is Status[status]


def test_short_row_is_not_sacrificed_to_long_ones():
    # A gap of 1e-10 relative to the longest row would hide a conflict with the shortest.
    rng = np.random.default_rng(5)
    for _ in range(50):
        jac = rng.standard_normal((4, 6)) * 10.0 ** rng.uniform(-3, 3, (4, 1))
        direction = solve(jac @ jac.T).weights @ jac
        cosines = jac @ direction / np.linalg.norm(jac, axis=1) / np.linalg.norm(direction)
        assert cosines.min() >= -1e-9


def test_too_few_steps_are_told():
    jac = draw("condition_1e6", 30, 0)
    point = solve(jac @ jac.T, max_steps=3)
    assert point.status is Status.STEP_LIMIT
    assert point.num_steps == 3
    assert point.certificate > 1.0


def test_takes_about_as_many_steps_as_the_support_has_members():
    for family in ("iid", "condition_1e6", "condition_1e12", "integers"):
        jac = draw(family, 64, 0)
        point = solve(jac @ jac.T)
        assert point.num_steps <= 3 * np.count_nonzero(point.weights) + 10


@pytest.mark.parametrize("family", ["iid", "correlated", "vertex", "spread_iid", "spread_vertex"])
def test_takes_a_handful_of_steps_where_many_rows_can_join_and_leave_at_once(family):
    for seed in range(10):
        jac = draw(family, 32, seed)
        assert solve(jac @ jac.T).num_steps <= 8


@pytest.mark.parametrize(("num_tasks", "seed"), [(32, 248), (32, 391), (64, 163), (128, 121)])
def test_rows_that_gain_much_do_not_hide_one_that_gains_enough(num_tasks, seed):
    # The row with the largest gap for its norm was within what it is allowed, another was not.
    jac = draw("mixture", num_tasks, seed)
    assert_certified(jac, solve(jac @ jac.T))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "simplex"}, "method must be one of"),
        ({"tol": -1e-3}, "tol must be a number in"),
        ({"tol": 1.0}, "tol must be a number in"),
        ({"tol": float("nan")}, "tol must be a number in"),
        ({"max_steps": -1}, "max_steps must be an integer of at least 0"),
    ],
)
def test_options_out_of_range(options, match):
    with pytest.raises(ValueError, match=match):
        solve(np.eye(3), **options)


def test_every_method_of_the_signature_runs():
    for method in get_args(get_type_hints(min_norm_point)["method"]):
        assert solve(np.eye(3), method=method).status is Status.CONVERGED
