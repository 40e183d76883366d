import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradbalance.numerics import Status, as_gramian, bounded_minima, nearest_vector
from gradbalance.testing.families import FAMILIES

UNIT = np.finfo(np.float64).eps
KINDS = ["zero", "negative", "own length"]
EASY = ["iid", "correlated", "vertex", "condition_1e6", "spread_iid"]

families = pytest.mark.parametrize("family", FAMILIES)
kinds = pytest.mark.parametrize("kind", KINDS)
draws = st.tuples(
    st.sampled_from(sorted(FAMILIES)),
    st.integers(1, 12),
    st.integers(0, 2**32),
    st.sampled_from(KINDS),
)


def draw(family, num_tasks, seed, kind):
    """Rows J, weights p, the indices M, and bounds for them of one of three kinds."""
    rng = np.random.default_rng([seed, num_tasks])
    jac = FAMILIES[family](rng, num_tasks)
    center = rng.uniform(0.0, 2.0, num_tasks)
    rows = rng.permutation(num_tasks)[: rng.integers(1, num_tasks + 1)]
    norms = np.linalg.norm(jac, axis=1)
    if kind == "own length":
        least = rng.choice([0.02, 1.0, 3.0]) * norms[rows] ** 2
    else:
        least = -norms[rows] * (center @ norms) * rng.uniform(0.0, 1.0, rows.size)
    return jac, center, rows, np.zeros(rows.size) if kind == "zero" else least


def nearest(jac, center, rows, least):
    return nearest_vector(as_gramian(jac @ jac.T), center, rows, least)


def worst_ratio(jac, center, rows, least, weights):
    """The certificate from the rows themselves, in extended precision where the platform has it."""
    jac, weights = jac.astype(np.longdouble), weights.astype(np.longdouble)
    norms = np.sqrt((jac**2).sum(axis=1))
    lengths = np.where(norms > 0, norms, 1)[rows]
    missed = (least - jac[rows] @ (weights @ jac)) / lengths
    size = np.abs(weights) @ norms + np.abs(least / lengths).max(initial=0.0)
    moved = (weights > center)[rows] & (norms[rows] > 0)
    wrong = np.maximum(missed, -missed * moved).max(initial=0.0)
    return float(wrong / (2 * len(jac) * UNIT * size)) if size > 0 else 0.0


def margin(jac):
    """The largest least cosine that one vector has with all of these rows; 0 if none has any."""
    kept = jac[np.linalg.norm(jac, axis=1) > 0]
    unit = kept / np.linalg.norm(kept, axis=1, keepdims=True)
    direction = cp.Variable(jac.shape[1])
    problem = cp.Problem(cp.Maximize(cp.min(unit @ direction)), [cp.norm(direction) <= 1])
    problem.solve(cp.CLARABEL)
    return problem.value


def by_cvxpy(jac, center, rows, least):
    """The direction, found among the parameters and with rows of length 1."""
    target, norms = center @ jac, np.linalg.norm(jac, axis=1)
    scale = np.linalg.norm(target) + np.abs(least / norms[rows]).max()
    unit = jac[rows] / norms[rows, None]
    direction = cp.Variable(jac.shape[1])
    problem = cp.Problem(
        cp.Minimize(cp.sum_squares(direction - target / scale)),
        [unit @ direction >= least / norms[rows] / scale],
    )
    problem.solve(cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    return direction.value * scale


def assert_same_direction(jac, weights, others):
    """|Jᵀ(v − v')| is small beside the terms that make it up: √ε of them is what G can tell."""
    size = (np.abs(weights) + np.abs(others)) @ np.linalg.norm(jac, axis=1)
    distance = np.linalg.norm((weights - others) @ jac)
    assert distance <= np.sqrt(10 * len(jac) * UNIT) * size


@kinds
@families
@pytest.mark.parametrize("num_tasks", [1, 2, 3, 5, 8, 16, 32])
def test_certifies_every_family(family, num_tasks, kind):
    for seed in range(max(2, 16 // num_tasks)):
        jac, center, rows, least = draw(family, num_tasks, seed, kind)
        found = nearest(jac, center, rows, least)
        assert found.status in (Status.CONVERGED, Status.STATIONARY, Status.ILL_POSED)
        assert found.certificate <= 1.0
        if found.status is Status.ILL_POSED:
            assert (least > 0).any()
            least = np.minimum(least, 0.0)
        # The Gramian that was passed has been rounded, which is allowed for a second time.
        assert worst_ratio(jac, center, rows, least, found.weights) <= 2.0
        others = np.setdiff1d(np.arange(num_tasks), rows)
        np.testing.assert_array_equal(found.weights[others], center[others])
        assert (found.weights >= center).all()


@kinds
@pytest.mark.parametrize("family", EASY)
def test_matches_a_general_solver_among_the_parameters(family, kind):
    for num_tasks in (2, 4, 7):
        for seed in range(4):
            jac, center, rows, least = draw(family, num_tasks, seed, kind)
            direction = nearest(jac, center, rows, least).weights @ jac
            expected = by_cvxpy(jac, center, rows, least)
            assert np.linalg.norm(direction - expected) <= 1e-6 * np.linalg.norm(expected)


@families
def test_bounds_above_zero_are_ill_posed_where_and_only_where_no_vector_has_them(family):
    for num_tasks, seed in [(2, 0), (2, 1), (4, 0), (4, 1), (9, 0), (9, 1)]:
        jac, center, rows, least = draw(family, num_tasks, seed, "own length")
        found = nearest(jac, center, rows, least)
        room = margin(jac[rows]) if (least > 0).any() else 1.0
        if room > 0.1:
            assert found.status is not Status.ILL_POSED
        elif room < 1e-9:
            assert found.status is Status.ILL_POSED


def test_opposed_rows_that_want_a_product_get_a_product_of_zero():
    # No d has ⟨(1, 0), d⟩ ≥ 3 and ⟨(-2, 0), d⟩ ≥ 3; the nearest to (1, 1) that opposes neither is
    # (0, 1).
    jac = np.array([[1.0, 0.0], [-2.0, 0.0], [1.0, 1.0]])
    found = nearest(jac, [0.0, 0.0, 1.0], [0, 1], [3.0, 3.0])
    assert found.status is Status.ILL_POSED
    np.testing.assert_allclose(found.weights @ jac, [0.0, 1.0], atol=1e-12)
    assert found.num_steps > nearest(jac, [0.0, 0.0, 1.0], [0, 1], [0.0, 0.0]).num_steps
    # What they may lose stays as it was: the first may rise by ½, so that (½, 1) is in reach.
    found = nearest(jac, [0.0, 0.0, 1.0], [0, 1], [3.0, -1.0])
    assert found.status is Status.ILL_POSED
    np.testing.assert_allclose(found.weights @ jac, [0.5, 1.0], atol=1e-12)


@families
def test_the_answer_to_an_ill_posed_problem_is_that_for_bounds_of_at_most_zero(family):
    for seed in range(8):
        jac, center, rows, least = draw(family, 4, seed, "own length")
        least[::2] *= -1.0
        found = nearest(jac, center, rows, least)
        if found.status is Status.ILL_POSED:
            other = nearest(jac, center, rows, np.minimum(least, 0.0))
            assert other.status is not Status.ILL_POSED
            assert_same_direction(jac, found.weights, other.weights)


def test_by_hand():
    # ⟨(1, 0), d⟩ is -2 for d = (-2, √5); ½ more than 0 needs 2½ of (1, 0) and no other row.
    jac = np.array([[1.0, 0.0], [-3.0, 5.0**0.5]])
    found = nearest(jac, [1.0, 1.0], [0], [0.5])
    np.testing.assert_allclose(found.weights, [3.5, 1.0], rtol=1e-14)
    assert found.num_steps == 1
    # It may rise by as much as it does, or more: nothing is moved.
    for least in (-2.0, -3.0):
        found = nearest(jac, [1.0, 1.0], [0], [least])
        assert found.weights.tolist() == [1.0, 1.0]
        assert found.num_steps == 0


@families
def test_without_rows_nothing_moves(family):
    jac, center, _, _ = draw(family, 5, 0, "zero")
    found = nearest(jac, center, [], [])
    assert found.weights.tolist() == center.tolist()
    assert (found.num_steps, found.certificate) == (0, 0.0)
    assert found.status in (Status.CONVERGED, Status.STATIONARY)


def test_a_zero_row_is_no_constraint_and_keeps_its_weight():
    jac = np.array([[2.0, 0.0], [0.0, 0.0], [-1.0, 1.0]])
    found = nearest(jac, [0.0, 7.0, 1.0], [0, 1], [4.0, 0.0])
    np.testing.assert_allclose(found.weights, [1.5, 7.0, 1.0], rtol=1e-14)
    assert found.status is Status.CONVERGED
    zero = nearest_vector(np.zeros((2, 2)), [1.0, 2.0], [0, 1], [0.0, 0.0])
    assert zero.weights.tolist() == [1.0, 2.0]
    assert zero.status is Status.STATIONARY


def test_a_sum_that_cancels_is_stationary():
    opposed = np.array([[3.0, 0.0], [-1.0, 0.0]])
    found = nearest(opposed, [1.0, 3.0], [0], [0.0])
    assert found.status is Status.STATIONARY
    assert nearest(opposed, [1.0, 3.0], [0], [9.0]).status is Status.CONVERGED


@settings(deadline=None)
@given(draws, st.integers(-60, 60))
def test_a_power_of_two_changes_nothing(drawn, exponent):
    jac, center, rows, least = draw(*drawn)
    gram = as_gramian(jac @ jac.T)
    if 1e-150 < gram.max() < 1e150 and (gram[gram != 0] ** 2).min() > 1e-100:
        found = nearest_vector(gram, center, rows, least)
        scaled = nearest_vector(np.ldexp(gram, exponent), center, rows, np.ldexp(least, exponent))
        np.testing.assert_array_equal(scaled.weights, found.weights)
        assert scaled[1:] == found[1:]


@families
@pytest.mark.parametrize("num_tasks", [1, 2, 5, 12])
def test_with_all_rows_and_bounds_of_zero_it_is_the_least_form_above_the_weights(family, num_tasks):
    for seed in range(4):
        jac, center, _, _ = draw(family, num_tasks, seed, "zero")
        found = nearest(jac, center, range(num_tasks), np.zeros(num_tasks))
        minimum = bounded_minima(as_gramian(jac @ jac.T), center)
        assert_same_direction(jac, found.weights, minimum.points[0])


@settings(deadline=None)
@given(draws, st.randoms(use_true_random=False))
def test_order_of_the_rows_does_not_matter(drawn, random):
    jac, center, rows, least = draw(*drawn)
    order = np.array(random.sample(range(len(jac)), len(jac)))
    found = nearest(jac, center, rows, least)
    other = nearest(jac[order], center[order], np.argsort(order)[rows], least)
    weights = np.empty_like(other.weights)
    weights[order] = other.weights
    if (found.status is Status.ILL_POSED) == (other.status is Status.ILL_POSED):
        assert_same_direction(jac, found.weights, weights)


def test_the_arguments_are_left_as_they_were():
    center, least = np.array([1.0, 1.0]), np.array([0.5])
    gram = np.array([[1.0, -2.0], [-2.0, 9.0]])
    nearest_vector(gram, center, [0], least)
    assert (center.tolist(), least.tolist()) == ([1.0, 1.0], [0.5])
    assert gram.tolist() == [[1.0, -2.0], [-2.0, 9.0]]


def test_bounds_of_zero_beside_others_do_not_make_it_ill_posed():
    jac = np.array([[1.0, 0.0, 0.0], [-0.9, 0.3, 0.0], [-1.0, 0.2, 0.0], [0.0, 0.0, 1.0]])
    found = nearest(jac, [0.0, 0.0, 1.0, 0.0], [0, 1, 3], [1.0, 0.0, 0.0])
    assert found.status is Status.CONVERGED
    np.testing.assert_allclose(found.weights, [10.4, 28 / 3, 1.0, 0.0], rtol=1e-12)


def test_a_bound_far_below_zero_lifts_no_other():
    jac = np.array([[1.0, 0.0, 0.0], [-0.9, 0.3, 0.0], [-1.0, 0.2, 0.0], [0.0, 0.0, 1.0]])
    found = nearest(jac, [0.0, 0.0, 1.0, 0.0], [0, 1, 3], [1.0, 0.0, -1e15])
    np.testing.assert_allclose(found.weights, [10.4, 28 / 3, 1.0, 0.0], rtol=1e-12)
    assert found.status is Status.CONVERGED
