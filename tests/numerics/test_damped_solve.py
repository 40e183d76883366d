import numpy as np
import pytest

from gradbalance.numerics.active_set import damped_solve


def test_a_system_that_is_not_convex_is_damped_until_it_is():
    system = np.array([[1.0, 1.0 + 1e-9], [1.0 + 1e-9, 1.0]])
    solution, is_convex = damped_solve(system, np.ones((1, 2)))
    assert not is_convex
    assert solution == pytest.approx(np.full((1, 2), 0.5), rel=1e-6)
    # As far from a Gramian as can be: the off-diagonal is all there is to outweigh.
    _, is_convex = damped_solve(np.array([[1e-3, 1.0], [1.0, 1e3]]) + np.eye(2), np.ones((1, 2)))
    assert is_convex
    _, is_convex = damped_solve(
        np.array([[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0], [1.0] * 3]), np.ones((1, 3))
    )
    assert not is_convex


@pytest.mark.parametrize("diagonal", [0.0, -1.0])
def test_a_system_that_no_damping_helps_is_an_error_and_no_endless_loop(diagonal):
    with pytest.raises(np.linalg.LinAlgError, match="positive diagonal"):
        damped_solve(np.diag([diagonal, 1.0]), np.ones((1, 2)))
