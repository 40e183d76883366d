import numpy as np
import pytest

from gradbalance.testing.families import FAMILIES


def cosines(jac):
    unit = jac / np.linalg.norm(jac, axis=1, keepdims=True)
    return unit @ unit.T


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("num_tasks", [1, 2, 3, 17])
def test_a_family_gives_finite_rows_that_depend_on_the_seed_alone(family, num_tasks):
    first, second, other = (
        FAMILIES[family](np.random.default_rng(seed), num_tasks) for seed in (0, 0, 1)
    )
    assert first.shape[0] == num_tasks
    assert first.dtype == np.float64
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)
    if num_tasks > 3 and "zero_rows" not in family:
        assert first.shape != other.shape or (first != other).any()


def test_families_are_what_they_say():
    rng = np.random.default_rng(0)
    off_diagonal = cosines(FAMILIES["correlated"](rng, 40))[~np.eye(40, dtype=bool)]
    assert off_diagonal.mean() == pytest.approx(0.9, abs=0.03)
    for log_condition in (6, 12):
        jac = FAMILIES[f"condition_1e{log_condition}"](rng, 20)
        assert np.linalg.cond(jac) == pytest.approx(10.0 ** (log_condition / 2), rel=1e-3)
    assert np.linalg.matrix_rank(FAMILIES["rank_deficient"](rng, 20)) == 10
    norms = np.linalg.norm(FAMILIES["spread_iid"](rng, 200), axis=1)
    assert norms.max() / norms.min() > 1e5
    vertex = FAMILIES["vertex"](rng, 10)
    shortest = np.linalg.norm(vertex, axis=1).argmin()
    products = vertex @ vertex[shortest]
    assert products.min() >= products[shortest] * (1 - 1e-10)
    assert cosines(FAMILIES["opposed"](np.random.default_rng(2), 6)).min() == pytest.approx(-1.0)
    assert np.unique(FAMILIES["duplicated"](rng, 10), axis=0).shape[0] < 10
