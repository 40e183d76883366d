import numpy as np
import pytest

from gradbalance.numerics import as_gramian
from gradbalance.numerics.gramian import rounding_of
from gradbalance.testing.families import FAMILIES

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("family", FAMILIES)
def test_gramians_are_taken_as_they_are(family):
    for num_tasks in (1, 2, 7, 40):
        jac = FAMILIES[family](np.random.default_rng(num_tasks), num_tasks)
        gram = jac @ jac.T
        gram = 0.5 * (gram + gram.T)
        np.testing.assert_array_equal(as_gramian(gram), gram)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rounding_is_allowed(dtype):
    rng = np.random.default_rng(0)
    for num_tasks in (2, 8, 64):
        jac = rng.standard_normal((num_tasks, 4)).astype(dtype)
        gram = as_gramian(jac @ jac.T)
        assert gram.dtype == np.float64
        assert (gram == gram.T).all()


def test_returns_a_copy():
    given = np.eye(2)
    as_gramian(given)[0, 0] = 5.0
    assert given[0, 0] == 1.0


def test_a_small_asymmetry_is_averaged_out():
    gram = as_gramian([[1.0, 0.5 + 1e-6], [0.5, 1.0]])
    assert gram[0, 1] == gram[1, 0] == pytest.approx(0.5 + 5e-7, abs=1e-15)


def test_a_diagonal_entry_lost_to_underflow_makes_a_zero_row():
    gram = as_gramian([[1.0, 1e-20], [1e-20, 0.0]])
    assert gram.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    gram = as_gramian([[1.0, 0.0], [0.0, -1e-40]])
    assert gram.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    gram = as_gramian([[1.0, 1e-158], [1e-158, 5e-315]])
    assert gram.tolist() == [[1.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("gram", "match"),
    [
        ([1.0, 2.0], r"shape \(2,\)"),
        ([[1.0, 2.0]], r"shape \(1, 2\)"),
        (np.zeros((0, 0)), r"at least one task, got shape \(0, 0\)"),
        (np.eye(2) * 1j, "dtype complex128"),
        ([["a"]], "real numbers, got dtype <U1"),
        ([[1.0, NAN], [NAN, 1.0]], r"at \[0, 1\], \[1, 0\]"),
        ([[1.0, 0.0], [0.0, INF]], r"at \[1, 1\]"),
        ([[1.0, 0.9], [0.1, 1.0]], r"gram\[0, 1\] = 0.9, but gram\[1, 0\] = 0.1"),
        ([[1e6, 1e-3], [-1e-3, 1e-6]], "not symmetric"),
        ([[1.0, 0.0], [0.0, -0.1]], r"gram\[1, 1\] = -0.1 is negative"),
        ([[-1.0]], r"gram\[0, 0\] = -1 is negative"),
        ([[0.0, 1.0], [1.0, 0.0]], r"\|gram\[0, 1\]\| = 1 exceeds .* = 0"),
        ([[1e6, 1.1], [1.1, 1e-6]], r"\|gram\[0, 1\]\| = 1.1 exceeds"),
        (np.eye(3) * 1.9 - 0.9, "negative eigenvalue -0.8"),
        (-np.eye(2), "negative"),
    ],
)
def test_what_is_not_a_gramian_is_refused(gram, match):
    with pytest.raises(ValueError, match=match):
        as_gramian(gram)


def test_what_rounding_took_from_the_eigenvalues_is_told():
    exact = np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert rounding_of(exact) == 2 * np.finfo(np.float64).eps
    below = exact - 1e-7 * np.eye(2)  # its least eigenvalue is -1e-7
    assert 2e-7 <= rounding_of(below) <= 8.1e-7
    assert np.linalg.eigvalsh(below + 0.51 * rounding_of(below) * np.eye(2))[0] > 0.0
