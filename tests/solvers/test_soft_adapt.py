import itertools
import math

import numpy as np
import pytest

import gradbalance as gb
from tests.solvers.falling_losses import losses, run


def by_hand(rows, *, beta, normalized, weighted):
    """The paper's formulas, number by number."""
    weights = [[1 / 3] * 3]
    if weighted:
        weights = [[value / sum(rows[0]) for value in rows[0]]]
    for before, now in itertools.pairwise(rows):
        rates = [new - old for new, old in zip(now, before, strict=True)]
        if normalized:
            total = sum(abs(rate) for rate in rates)
            rates = [rate / total for rate in rates]
        parts = [math.exp(beta * rate) for rate in rates]
        if weighted:
            parts = [part * value for part, value in zip(parts, now, strict=True)]
        weights.append([part / sum(parts) for part in parts])
    return np.array(weights)


@pytest.mark.parametrize("beta", [0.1, 3.0, -1.0])
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_thirty_steps_are_those_of_the_papers_formulas(beta, normalized, weighted):
    rows = losses()
    solver = gb.SoftAdapt(beta=beta, normalized=normalized, loss_weighted=weighted)
    expected = by_hand(rows.tolist(), beta=beta, normalized=normalized, weighted=weighted)
    np.testing.assert_allclose(run(solver, rows), expected, rtol=1e-12)


def test_with_decay_the_rates_are_those_of_the_moving_averages():
    rows, decay = losses(), 0.9
    means = [rows[0]]
    for row in rows[1:]:
        means.append(decay * means[-1] + (1 - decay) * row)
    smooth = by_hand(np.array(means).tolist(), beta=2.0, normalized=False, weighted=True)
    found = run(gb.SoftAdapt(beta=2.0, loss_weighted=True, decay=decay), rows)
    np.testing.assert_allclose(found, smooth, rtol=1e-12)


def test_a_new_task_has_no_rate_and_an_absent_one_keeps_its_loss():
    solver = gb.SoftAdapt(beta=1.0)
    run(solver, [[2.0]])
    weights = run(solver, [[2.0, 9.0]])
    assert weights.tolist() == [[0.5, 0.5]]
    run(solver, [[1.0]])
    fell = math.exp(-8.0)  # b from 9 to 1, a not at all
    np.testing.assert_allclose(run(solver, [[1.0, 1.0]])[0], np.array([1.0, fell]) / (1 + fell))


@pytest.mark.parametrize("beta", [1e100, -1e100])
@pytest.mark.parametrize("normalized", [False, True])
def test_losses_of_any_size_leave_the_weights_finite(beta, normalized):
    rows = [[0.0, 0.0, 0.0], [1e250, 0.0, 1.0], [0.0, 1e250, 1e-300], [0.0, 0.0, 0.0]]
    solver = gb.SoftAdapt(beta=beta, normalized=normalized, loss_weighted=True)
    weights = run(solver, rows)
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)


def test_negative_losses_have_rates_but_no_share():
    run(gb.SoftAdapt(), [[-1.0, 2.0], [-2.0, 1.0]])
    with pytest.raises(ValueError, match="task 'a'"):
        run(gb.SoftAdapt(loss_weighted=True), [[-1.0, 2.0]])
