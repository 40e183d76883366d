import math

import numpy as np
import pytest

import gradbalance as gb


def epoch(solver, *steps, end=True):
    """The weights at every step of an epoch on these losses by task."""
    weights = []
    for losses in steps:
        problem = gb.Problem.of(losses=list(losses.values()), names=list(losses))
        solution = solver.solve(problem)
        solver.update(problem, solution)
        weights.append(solution.weights)
    if end:
        solver.end_epoch()
    return np.array(weights)


def test_by_hand_on_the_means_of_epochs():
    solver = gb.DWA(temperature=2.0)
    # Means 4 and 1, then 1 and 1: ratios 1/4 and 1.
    first = epoch(solver, {"a": 5.0, "b": 1.5}, {"a": 3.0, "b": 0.5})
    second = epoch(solver, {"a": 1.5, "b": 0.0}, {"a": 0.5, "b": 2.0}, {"a": 1.0, "b": 1.0})
    third = epoch(solver, {"a": 9.0, "b": 9.0}, {"a": 1.0, "b": 1.0})
    assert (first == 1).all()
    assert (second == 1).all()
    slow, fast = math.exp(1 / 2), math.exp(0.25 / 2)
    expected = [2 * fast / (fast + slow), 2 * slow / (fast + slow)]
    np.testing.assert_allclose(third, [expected, expected], rtol=1e-14)


def test_weights_sum_to_the_number_of_tasks():
    solver = gb.DWA()
    for t in range(4):
        weights = epoch(solver, {"a": 1 / (t + 1), "b": 1.0, "c": 2.0**-t})
    assert weights.sum() == pytest.approx(3.0)
    assert weights[0].argmax() == 1


def test_a_task_absent_for_an_epoch_keeps_its_means():
    solver = gb.DWA()
    epoch(solver, {"a": 4.0, "b": 1.0})
    epoch(solver, {"a": 1.0, "b": 1.0})
    before = solver.state_dict()["tasks"]["a"]
    assert epoch(solver, {"b": 1.0}).tolist() == [[1.0]]
    assert solver.state_dict()["tasks"]["a"] == before
    weights = epoch(solver, {"a": 1.0, "b": 1.0})[0]
    assert weights[0] < 1 < weights[1]


@pytest.mark.parametrize("means", [(0.0, 1.0), (0.0, 0.0), (1.0, 0.0), (1e-320, 1e300)])
def test_a_mean_of_zero_does_not_divide(means):
    solver = gb.DWA()
    for mean in means:
        epoch(solver, {"a": mean, "b": 1.0})
    weights = epoch(solver, {"a": 1.0, "b": 1.0})[0]
    assert np.isfinite(weights).all()
    assert weights.sum() == pytest.approx(2.0)


def test_a_new_task_starts_neutral():
    solver = gb.DWA()
    epoch(solver, {"a": 1.0})
    epoch(solver, {"a": 1.0})
    assert epoch(solver, {"a": 1.0, "b": 7.0}).tolist() == [[1.0, 1.0]]


def test_an_epoch_that_never_ends_is_an_error():
    solver = gb.DWA(max_epoch_steps=3)
    losses = {"a": 1.0}
    epoch(solver, *[losses] * 3)
    epoch(solver, *[losses] * 3, end=False)
    with pytest.raises(ValueError, match=r"balancer.end_epoch\(\) after each; found 3 steps"):
        epoch(solver, losses)


def test_a_resumed_epoch_counts_the_steps_before():
    solver, resumed = gb.DWA(max_epoch_steps=3), gb.DWA(max_epoch_steps=3)
    epoch(solver, *[{"a": 1.0}] * 3, end=False)
    resumed.load_state_dict(solver.state_dict())
    with pytest.raises(ValueError, match="found 3 steps"):
        epoch(resumed, {"a": 1.0})


def test_an_epoch_without_a_step_is_an_error():
    solver = gb.DWA()
    with pytest.raises(ValueError, match="found no step"):
        solver.end_epoch()
    epoch(solver, {"a": 1.0})
    with pytest.raises(ValueError, match="found no step"):
        solver.end_epoch()


def test_a_negative_loss_is_refused_by_name():
    with pytest.raises(ValueError, match="task 'b'"):
        epoch(gb.DWA(), {"a": 1.0, "b": -1.0})
