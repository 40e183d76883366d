import itertools

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gradbalance.numerics import nearest_in_simplex

numbers = st.floats(-1e6, 1e6) | st.floats(-2.0, 2.0) | st.sampled_from([0.0, 1.0, 1e30, -1e30])
points = st.integers(1, 12).flatmap(lambda size: arrays(np.float64, size, elements=numbers))


def by_enumeration(point):
    """The nearest of the projections onto all faces that hold theirs."""
    best = None
    for size in range(1, point.size + 1):
        for free in map(list, itertools.combinations(range(point.size), size)):
            candidate = np.zeros(point.size)
            candidate[free] = point[free] + (1 - point[free].sum()) / size
            if candidate.min() >= 0 and (
                best is None or np.linalg.norm(candidate - point) < np.linalg.norm(best - point)
            ):
                best = candidate
    return best


@pytest.mark.parametrize("num_tasks", [2, 3, 5, 8])
def test_it_is_the_nearest_of_all_faces(num_tasks):
    rng = np.random.default_rng(num_tasks)
    for _ in range(20):
        point = rng.standard_normal(num_tasks) * 10.0 ** rng.uniform(-2, 1)
        np.testing.assert_allclose(nearest_in_simplex(point), by_enumeration(point), atol=1e-13)


@pytest.mark.parametrize("num_tasks", [4, 40])
def test_it_matches_a_general_solver(num_tasks):
    rng = np.random.default_rng(num_tasks)
    for _ in range(5):
        point, weights = rng.uniform(-1, 1, num_tasks), cp.Variable(num_tasks)
        problem = cp.Problem(
            cp.Minimize(cp.sum_squares(weights - point)), [weights >= 0, cp.sum(weights) == 1]
        )
        problem.solve(cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
        np.testing.assert_allclose(nearest_in_simplex(point), weights.value, atol=1e-6)


def test_points_of_the_simplex_stay():
    for point in np.random.default_rng(0).dirichlet(np.ones(5), 20):
        np.testing.assert_allclose(nearest_in_simplex(point), point, atol=1e-15)
    assert nearest_in_simplex(np.array([0.0, 1.0, 0.0])).tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("point", [[1e30], [-1e30], [0.0], [1.0]])
def test_one_entry_is_all(point):
    assert nearest_in_simplex(np.array(point)).tolist() == [1.0]


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ([1e30, -1e30], [1.0, 0.0]),
        ([-1e30, -1e30], [0.5, 0.5]),
        ([1e30, 1e30, 0.0], [0.5, 0.5, 0.0]),
        ([1e30, 0.0, -1e30, 1e29], [1.0, 0.0, 0.0, 0.0]),
        ([1e16, 1e16 - 2.0], [1.0, 0.0]),
        ([-1e8, -1e8 - 0.5], [0.75, 0.25]),
    ],
)
def test_huge_entries_leave_the_one_in_reach(point, expected):
    assert nearest_in_simplex(np.array(point)).tolist() == expected


@given(points)
def test_no_way_into_the_simplex_comes_nearer(point):
    """⟨x − w, v − w⟩ ≤ 0 for all v of the simplex, that is, for its corners."""
    before = point.copy()
    weights = nearest_in_simplex(point)
    assert (point == before).all()
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1.0, abs=1e-14)
    offsets = (point - point.max()) - weights  # the sum of v − w is 0
    slopes = offsets - offsets @ weights
    assert (slopes <= 1e-14 * point.size * (1 + np.abs(offsets) @ weights)).all()


@given(points, st.randoms(use_true_random=False))
def test_order_does_not_matter(point, random):
    order = random.sample(range(point.size), point.size)
    permuted = nearest_in_simplex(point[order])
    np.testing.assert_allclose(permuted, nearest_in_simplex(point)[order], atol=1e-15)
