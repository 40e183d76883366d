import numpy as np
import pytest

import gradbalance as gb


def run(solver, num_steps, num_tasks=3):
    weights = []
    for _ in range(num_steps):
        problem = gb.Problem.of(losses=np.ones(num_tasks))
        solution = solver.solve(problem)
        weights.append(solution.weights)
        solver.update(problem, solution)
    return np.array(weights)


def test_weights_are_positive_and_sum_to_one():
    weights = run(gb.RLW(), 50)
    assert (weights > 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)


def test_weights_are_the_softmax_of_normal_numbers():
    # Differences of logarithms of a softmax are those of its arguments: here of variance 2.
    logs = np.log(run(gb.RLW(seed=1), 4000))
    differences = logs[:, 0] - logs[:, 1]
    assert differences.mean() == pytest.approx(0.0, abs=0.1)
    assert differences.var() == pytest.approx(2.0, rel=0.1)


def test_steps_and_seeds_differ():
    first, second = run(gb.RLW(seed=0), 2), run(gb.RLW(seed=1), 2)
    assert len({tuple(row) for row in (*first, *second)}) == 4
