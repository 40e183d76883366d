import numpy as np
import pytest

import gradbalance as gb

PROBLEM = gb.Problem.of(np.diag([4.0, 1.0, 0.25]), losses=[1.0, 2.0, 4.0])


@pytest.mark.parametrize(
    ("normalization", "sizes"),
    [("l2", [2, 1, 0.5]), ("loss", [1, 2, 4]), ("loss+", [2, 2, 2])],
)
def test_weights_are_inverse_sizes_of_sum_t(normalization, sizes):
    weights = gb.InverseNorm(normalization).solve(PROBLEM).weights
    inverse = 1 / np.array(sizes)
    assert weights == pytest.approx(3 * inverse / inverse.sum(), rel=1e-14)


def test_a_running_mean_forgets_slowly_and_keeps_that_of_absent_tasks():
    solver = gb.InverseNorm(decay=0.75)
    solver.update(PROBLEM, solver.solve(PROBLEM))
    alone = gb.Problem.of([[36.0]], names=["0"], tasks=PROBLEM.tasks)
    solver.update(alone, solver.solve(alone))
    assert solver.state_dict()["sizes"] == {"0": 0.75 * 2 + 0.25 * 6, "1": 1.0, "2": 0.5}
    assert gb.InverseNorm().solve(PROBLEM).weights == pytest.approx([3 / 7, 6 / 7, 12 / 7])


def test_a_gradient_of_zero_counts_as_the_longest():
    problem = gb.Problem.of(np.diag([4.0, 0.0, 1.0]))
    assert gb.InverseNorm().solve(problem).weights == pytest.approx([0.75, 0.75, 1.5])


def test_sizes_far_apart_stay_within_float64():
    problem = gb.Problem.of(np.diag([1e-280, 1e280]), losses=[1e-300, 1e250])
    for normalization in ("l2", "loss", "loss+"):
        weights = gb.InverseNorm(normalization).solve(problem).weights
        assert np.isfinite(weights).all()
        assert (weights > 0).all()


def test_losses_that_cannot_divide_are_refused():
    problem = gb.Problem.of(np.eye(2), losses=[-1.0, 1.0])
    with pytest.raises(ValueError, match=r"InverseNorm\(normalization='loss\+'\) divides by"):
        gb.InverseNorm("loss+").solve(problem)
    with pytest.raises(ValueError, match="normalization must be one of"):
        gb.InverseNorm("none")
    assert gb.InverseNorm().takes_zero_losses
    assert not gb.InverseNorm("loss").takes_zero_losses
