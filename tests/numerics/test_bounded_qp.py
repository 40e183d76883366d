import itertools

import cvxpy as cp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from gradbalance import numerics
from gradbalance.numerics import Status, as_gramian
from gradbalance.testing.families import FAMILIES

UNIT = np.finfo(np.float64).eps
CERTIFIED = (Status.CONVERGED, Status.STATIONARY)

families = pytest.mark.parametrize("family", FAMILIES)
draws = st.tuples(st.sampled_from(sorted(FAMILIES)), st.integers(1, 12), st.integers(0, 2**32))


def bounded_minima(gram, lower):
    return numerics.bounded_minima(as_gramian(gram), lower)


def draw(family, num_tasks, seed):
    return FAMILIES[family](np.random.default_rng([seed, num_tasks]), num_tasks)


def bounds_of(num_tasks):
    """A bound on each row in turn, and one on all of them."""
    return np.vstack([np.eye(num_tasks), np.full(num_tasks, 1 / num_tasks)])


def worst_ratio(jac, lower, points):
    """The certificate from the rows themselves, in extended precision where the platform has it."""
    jac, points = jac.astype(np.longdouble), points.astype(np.longdouble)
    norms = np.sqrt((jac**2).sum(axis=1))
    norms[norms == 0] = 1
    slopes = points @ jac @ jac.T / norms
    allowed = 2 * len(jac) * UNIT * (np.abs(points) @ norms)[:, None]
    free = (points - lower) * norms > 0
    return float((np.where(free, np.abs(slopes), -slopes) / allowed).max())


def assert_certified(jac, lower, minima):
    assert minima.status in CERTIFIED
    assert minima.certificate <= 1.0
    assert np.isfinite(minima.points).all()
    assert (minima.points >= lower).all()
    # The Gramian that was passed has been rounded, which is allowed for a second time.
    assert worst_ratio(jac, lower, minima.points) <= 2.0


def assert_same_directions(jac, points, others):
    """|Jᵀ(v − v')| is small beside the terms that make it up: √ε of them is what G can tell."""
    norms = np.linalg.norm(jac, axis=1)
    distances = np.linalg.norm((points - others) @ jac, axis=1)
    sizes = (np.abs(points) + np.abs(others)) @ norms
    assert (distances <= np.sqrt(10 * len(jac) * UNIT) * sizes).all()


def by_enumeration(jac, lower):
    """The shortest of all Jᵀv that keep the bounds, over all sets of entries above them."""
    norms = np.linalg.norm(jac, axis=1)
    unit = jac / np.where(norms > 0, norms, 1)[:, None]
    base = lower @ jac
    best = base
    for size in range(1, len(jac) + 1):
        for chosen in map(list, itertools.combinations(range(len(jac)), size)):
            excess = np.linalg.lstsq(unit[chosen].T, -base, rcond=1e-9)[0]
            direction = base + np.maximum(excess, 0) @ unit[chosen]
            if np.linalg.norm(direction) < np.linalg.norm(best):
                best = direction
    return best


def by_cvxpy(jac, lower):
    norms = np.linalg.norm(jac, axis=1)
    unit = jac / norms[:, None]
    target = lower @ jac
    direction = cp.Variable(jac.shape[1])
    scale = np.linalg.norm(target)
    problem = cp.Problem(
        cp.Minimize(cp.sum_squares(direction - target / scale)), [unit @ direction >= 0]
    )
    problem.solve(cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    return direction.value * scale


@families
@pytest.mark.parametrize("num_tasks", [1, 2, 3, 5, 8, 16, 32])
def test_certifies_every_family(family, num_tasks):
    for seed in range(max(1, 32 // num_tasks)):
        jac, lower = draw(family, num_tasks, seed), bounds_of(num_tasks)
        assert_certified(jac, lower, bounded_minima(jac @ jac.T, lower))


@pytest.mark.long
@families
@pytest.mark.parametrize("num_tasks", [2, 3, 5, 8, 16, 32, 64, 128])
def test_certifies_thousands_of_draws(family, num_tasks):
    for seed in range(100, 100 + max(3, 2000 // num_tasks)):
        jac, lower = draw(family, num_tasks, seed), bounds_of(num_tasks)
        assert_certified(jac, lower, bounded_minima(jac @ jac.T, lower))


@families
@pytest.mark.parametrize("log_scale", [-30, 30])
def test_certifies_at_any_scale(family, log_scale):
    for num_tasks in (3, 10):
        jac, lower = draw(family, num_tasks, 0), bounds_of(num_tasks)
        minima = bounded_minima(10.0**log_scale * (jac @ jac.T), lower)
        assert_certified(jac, lower, minima)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"mixture"}))  # that one underflows
def test_solves_gramians_that_are_indefinite_by_float32_rounding(family):
    for num_tasks, seed in itertools.product((3, 10, 20), range(5)):
        jac = draw(family, num_tasks, seed).astype(np.float32)
        minima = bounded_minima(jac @ jac.T, bounds_of(num_tasks))
        assert minima.status in CERTIFIED
        assert minima.certificate <= 1.0


@pytest.mark.parametrize("num_tasks", [8, 16, 32, 64])
def test_certifies_hilbert_matrices(num_tasks):
    """Hardly any matrix is closer to singular; with alternating signs many bounds are left."""
    signs = (-1.0) ** np.arange(num_tasks)
    hilbert = scipy.linalg.hilbert(num_tasks) * np.outer(signs, signs)
    for gram in (hilbert, hilbert @ hilbert):
        minima = bounded_minima(gram, bounds_of(num_tasks))
        assert minima.status in CERTIFIED
        assert minima.certificate <= 1.0


@families
def test_no_set_of_free_entries_gives_a_shorter_direction(family):
    for num_tasks, seed in itertools.product(range(1, 7), range(2)):
        jac, lower = draw(family, num_tasks, seed), bounds_of(num_tasks)
        points = bounded_minima(jac @ jac.T, lower).points
        sizes = points @ np.linalg.norm(jac, axis=1)
        for point, bound, size in zip(points, lower, sizes, strict=True):
            shortest = np.sum(by_enumeration(jac, bound) ** 2)
            excess = np.sum((point @ jac) ** 2) - shortest
            assert excess <= 10 * num_tasks * UNIT * size**2 + 1e-10 * shortest


@pytest.mark.parametrize("family", ["iid", "correlated", "spread_iid", "vertex", "condition_1e6"])
def test_agrees_with_cvxpy(family):
    for num_tasks in (3, 8, 16):
        jac = draw(family, num_tasks, 0)
        lower = bounds_of(num_tasks)[[0, -1]]
        for point, bound in zip(bounded_minima(jac @ jac.T, lower).points, lower, strict=True):
            expected = by_cvxpy(jac, bound)
            size = np.linalg.norm(bound @ jac)
            np.testing.assert_allclose(point @ jac, expected, atol=1e-6 * size)


@settings(deadline=None)
@given(draws, st.integers(-300, 300))
def test_scaling_by_a_power_of_two_changes_nothing(drawn, exponent):
    jac = draw(*drawn)
    gram, lower = jac @ jac.T, bounds_of(len(jac))
    if 1e-150 < gram.max() < 1e150 and (gram[gram != 0] ** 2).min() > 1e-100:
        scaled = bounded_minima(np.ldexp(gram, exponent), lower)
        np.testing.assert_array_equal(scaled.points, bounded_minima(gram, lower).points)


@settings(deadline=None)
@given(draws, st.randoms(use_true_random=False))
def test_order_of_the_rows_does_not_matter(drawn, random):
    jac = draw(*drawn)
    order = random.sample(range(len(jac)), len(jac))
    gram, lower = jac @ jac.T, bounds_of(len(jac))
    permuted = bounded_minima(gram[np.ix_(order, order)], lower[:, order]).points
    others = np.empty_like(permuted)
    others[:, order] = permuted
    assert_same_directions(jac, bounded_minima(gram, lower).points, others)


@pytest.mark.parametrize("num_tasks", [8, 16, 17])
def test_bounds_may_be_large(num_tasks):
    """On the way of a long descent nothing overflows, which would be a warning and so an error."""
    for seed in range(3):
        jac, lower = draw("condition_1e12", num_tasks, seed), 1e12 * np.eye(num_tasks)
        assert_certified(jac, lower, bounded_minima(jac @ jac.T, lower))


@families
def test_many_bounds_at_once_are_solved_as_each_alone(family):
    for num_tasks in (4, 16):
        jac, lower = draw(family, num_tasks, 3), bounds_of(num_tasks)
        gram = jac @ jac.T
        alone = np.vstack([bounded_minima(gram, bound).points for bound in lower])
        assert_same_directions(jac, bounded_minima(gram, lower).points, alone)


def test_by_hand():
    # v(e1): y2 = -1 at (1, 0); v2 = 1/4 makes it 0, y1 = 3/4. v(e2): y1 = -1 at (0, 1); v1 = 1.
    minima = bounded_minima([[1.0, -1.0], [-1.0, 4.0]], np.eye(2))
    np.testing.assert_allclose(minima.points, [[1.0, 0.25], [1.0, 1.0]], rtol=1e-14)


def test_bounds_may_be_negative():
    # The shortest v1·(1, 0) + v2·(0, 1) with v ≥ (-1, 2) is (0, 2).
    points = bounded_minima(np.eye(2), [-1.0, 2.0]).points
    np.testing.assert_allclose(points, [[0.0, 2.0]], atol=1e-14)


def test_nothing_is_solved_where_nothing_conflicts():
    jac = draw("correlated", 20, 0)
    minima = bounded_minima(jac @ jac.T, np.eye(20))
    np.testing.assert_array_equal(minima.points, np.eye(20))
    assert minima.num_steps == 0


def test_equal_rows_share_what_is_added():
    # (1, 0) and twice (-1, 1): how it is shared is left open.
    jac = np.array([[1.0, 0.0], [-1.0, 1.0], [-1.0, 1.0]])
    point = bounded_minima(jac @ jac.T, [1.0, 0.0, 0.0]).points[0]
    np.testing.assert_allclose([point[0], point[1] + point[2]], [1.0, 0.5], rtol=1e-14)


def test_opposed_rows_are_stationary_and_others_are_not():
    opposed = np.array([[3.0, 0.0], [-0.1, 0.0]])
    assert bounded_minima(opposed @ opposed.T, np.eye(2)).status is Status.STATIONARY
    free = np.vstack([opposed, [1.0, 1.0]])
    minima = bounded_minima(free @ free.T, np.eye(3))
    assert minima.status is Status.CONVERGED
    np.testing.assert_allclose(minima.points[2] @ free, [0.0, 1.0], atol=1e-12)


def test_a_zero_row_is_no_constraint():
    jac = np.array([[2.0, 0.0], [0.0, 0.0], [-1.0, 1.0]])
    points = bounded_minima(jac @ jac.T, np.eye(3)).points
    np.testing.assert_allclose(points, [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.5, 0.0, 1.0]])
    # Nor does its bound count among the terms that rounding is relative to.
    jac *= [[1.0], [1.0], [1e-9]]
    point = bounded_minima(jac @ jac.T, [0.0, 1e9, 1.0]).points[0]
    np.testing.assert_allclose(point, [0.5e-9, 1e9, 1.0], rtol=1e-7)
    zero = bounded_minima(np.zeros((2, 2)), [1.0, 2.0])
    np.testing.assert_array_equal(zero.points, [[1.0, 2.0]])
    assert zero.status is Status.STATIONARY


@pytest.mark.parametrize("lower", [[1.0], np.eye(3), [[[1.0, 0.0]]], [np.nan, 0.0]])
def test_bounds_that_do_not_fit_are_refused(lower):
    with pytest.raises(ValueError, match="each of the 2 rows"):
        bounded_minima(np.eye(2), lower)
