import numpy as np
import pytest

from gradbalance.numerics import Status, as_gramian, given_projections, spectrum
from gradbalance.testing.families import FAMILIES

families = pytest.mark.parametrize("family", FAMILIES)


def draw(family, num_tasks, seed):
    return FAMILIES[family](np.random.default_rng([seed, num_tasks]), num_tasks)


@families
@pytest.mark.parametrize("num_tasks", [1, 3, 12, 64])
def test_the_spectrum_reproduces_the_gramian(family, num_tasks):
    jac = draw(family, num_tasks, 0)
    gram = jac @ jac.T
    values, vectors = spectrum(gram)
    assert (values > 0).all()
    assert (np.diff(values) >= 0).all()
    rest = np.abs(gram - vectors @ (values[:, None] * vectors.T)).max()
    assert rest <= 2e-12 * np.linalg.norm(gram, 2)


def test_rows_with_the_error_of_float32_do_not_raise_the_rank():
    rng = np.random.default_rng(0)
    jac = rng.standard_normal((12, 4)) @ rng.standard_normal((4, 1000))
    jac *= 1 + 3e-7 * rng.standard_normal(jac.shape)
    gram = jac @ jac.T
    assert len(spectrum(gram).values) == 4
    # Under a bound for float64 alone, errors count as tasks; how many of the eight do is a matter
    # of the matrix product's last bits, which differ between machines.
    assert len(spectrum(gram, rank_tol=12 * np.finfo(np.float64).eps).values) > 4


def test_a_zero_gramian_has_no_spectrum():
    assert spectrum(np.zeros((3, 3))).values.size == 0


@pytest.mark.parametrize("rank_tol", [0.0, 1.0, -1e-3, float("nan")])
def test_a_rank_tolerance_out_of_range_is_refused(rank_tol):
    with pytest.raises(ValueError, match=r"rank_tol must be a number in \(0, 1\)"):
        spectrum(np.eye(2), rank_tol=rank_tol)


@families
@pytest.mark.parametrize("num_tasks", [1, 2, 5, 24])
def test_projections_are_as_the_status_says(family, num_tasks):
    for seed in range(5):
        jac = draw(family, num_tasks, seed)
        targets = np.random.default_rng(seed).uniform(0.5, 2, num_tasks)
        found = given_projections(jac @ jac.T, targets)
        norms = np.linalg.norm(jac, axis=1)
        rows = norms > 0
        direction = found.weights @ jac
        projections = jac[rows] @ direction / norms[rows]
        size = 1 + np.abs(found.weights) @ norms
        np.testing.assert_allclose(projections, found.projections[rows], atol=1e-9 * size)
        assert (found.weights[~rows] == 0).all()
        if found.status is Status.CONVERGED:
            np.testing.assert_allclose(found.projections[rows], targets[rows], atol=2e-6)
        if found.status is Status.STATIONARY:
            assert not found.weights.any()


@pytest.mark.parametrize("family", ["iid", "rank_deficient", "overcomplete", "duplicated"])
def test_weights_are_the_least_norm_solution(family):
    jac = draw(family, 8, 1)
    norms = np.linalg.norm(jac, axis=1)
    cosines = (jac @ jac.T) / np.outer(norms, norms)
    expected = np.linalg.pinv(cosines, rcond=1e-10, hermitian=True) @ np.ones(8) / norms
    found = given_projections(jac @ jac.T, np.ones(8))
    np.testing.assert_allclose(found.weights, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("family", "status"),
    [
        ("iid", Status.CONVERGED),
        ("duplicated", Status.CONVERGED),
        ("spread_correlated", Status.CONVERGED),
        ("overcomplete", Status.ILL_POSED),
    ],
)
def test_status(family, status):
    for seed in range(5):
        jac = draw(family, 9, seed)
        assert given_projections(jac @ jac.T, np.ones(9)).status is status


def test_opposed_rows_have_no_common_projection():
    found = given_projections(as_gramian([[4.0, -2.0], [-2.0, 1.0]]), [1.0, 1.0])
    assert found.status is Status.STATIONARY
    assert found.weights.tolist() == [0.0, 0.0]
