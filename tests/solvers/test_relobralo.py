import math

import numpy as np
import pytest

import gradbalance as gb
from tests.solvers.falling_losses import losses, run


def balanced(now, then, temperature):
    parts = [math.exp(a / (temperature * b)) for a, b in zip(now, then, strict=True)]
    return [len(now) * part / sum(parts) for part in parts]


def by_hand(rows, looks_back, *, alpha, temperature):
    """The paper's equation, number by number."""
    weights = [[1.0] * 3]
    for step in range(1, len(rows)):
        kept = weights[-1]
        if looks_back[step]:
            kept = balanced(rows[step], rows[0], temperature)
        fresh = balanced(rows[step], rows[step - 1], temperature)
        weights.append(
            [alpha * old + (1 - alpha) * new for old, new in zip(kept, fresh, strict=True)]
        )
    return np.array(weights)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("temperature", [0.5, 10.0])
@pytest.mark.parametrize("rho", [0.5, 0.9, 1.0])
def test_thirty_steps_are_those_of_the_papers_equation(alpha, temperature, rho):
    rows, seed = losses(), 7
    draws = [np.random.default_rng((seed, step)).random() for step in range(len(rows))]
    looks_back = [draw >= rho for draw in draws]
    assert any(looks_back) == (rho < 1)
    solver = gb.ReLoBRaLo(alpha=alpha, temperature=temperature, expected_rho=rho, seed=seed)
    expected = by_hand(rows.tolist(), looks_back, alpha=alpha, temperature=temperature)
    np.testing.assert_allclose(run(solver, rows), expected, rtol=1e-12)


def test_as_often_as_expected_it_looks_back():
    solver = gb.ReLoBRaLo(alpha=0.5, temperature=1.0, expected_rho=0.8)
    rows = [[4.0, 4.0], *[[1.0, 4.0]] * 2000]
    # A step without a look back brings both weights nearer to 1, as both losses stay.
    fresh = np.array(balanced([1.0, 4.0], [4.0, 4.0], 1.0)) * 0.5 + 0.5
    back = np.isclose(run(solver, rows)[2:], fresh).all(axis=1).mean()
    assert back == pytest.approx(0.2, abs=0.03)


def test_weights_sum_to_the_number_of_tasks():
    weights = run(gb.ReLoBRaLo(alpha=0.9, expected_rho=0.9), losses())
    np.testing.assert_allclose(weights.sum(axis=1), 3.0)


def test_a_new_task_starts_with_one_and_an_absent_one_keeps_what_is_known():
    solver = gb.ReLoBRaLo(alpha=0.5, temperature=1.0, expected_rho=1.0)
    run(solver, [[2.0], [1.0]])
    assert run(solver, [[1.0, 9.0]]).tolist() == [[1.0, 1.0]]
    before = solver.state_dict()["tasks"]["b"]
    run(solver, [[1.0]])
    assert solver.state_dict()["tasks"]["b"] == before
    assert before["first"] == 9.0


def test_losses_of_any_size_leave_the_weights_finite():
    rows = [[0.0, 0.0, 1e250], [1e250, 0.0, 1e-300], [1e-300, 1.0, 1e250], [0.0, 0.0, 0.0]]
    solver = gb.ReLoBRaLo(alpha=0.5, temperature=1e-3, expected_rho=0.5)
    weights = run(solver, rows * 3)
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(weights.sum(axis=1), 3.0)


def test_a_negative_loss_is_refused_by_name():
    with pytest.raises(ValueError, match="task 'b'"):
        run(gb.ReLoBRaLo(), [[1.0, -1.0]])
