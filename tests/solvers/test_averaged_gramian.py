import numpy as np
import pytest

import gradbalance as gb
from gradbalance.testing import draw_run


def rows(num_steps, num_tasks=3):
    rng = np.random.default_rng(1)
    for _ in range(num_steps):
        yield rng.standard_normal((num_tasks, 5))


def test_the_method_sees_the_average_of_the_gramians():
    solver, averaged = gb.AveragedGramian(gb.UPGrad(), decay=0.75), None
    for jac in rows(30):
        gram = jac @ jac.T
        averaged = gram if averaged is None else 0.75 * averaged + 0.25 * gram
        problem = gb.Problem.of(gram)
        solution = solver.solve(problem)
        expected = gb.UPGrad().solve(gb.Problem.of(averaged)).weights
        assert solution.weights == pytest.approx(expected, rel=1e-12)
        assert solution.certificate is None
        solver.update(problem, solution)


def test_without_decay_it_is_the_method():
    solver = gb.AveragedGramian(gb.MGDA(), decay=0.0)
    for problem in draw_run():
        solution = solver.solve(problem)
        assert solution.weights.tolist() == gb.MGDA().solve(problem).weights.tolist()
        solver.update(problem, solution)


def test_pairs_averaged_over_different_steps_still_give_a_gramian():
    solver = gb.AveragedGramian(gb.MGDA(), decay=0.9)
    # Each pair is parallel in its turn, but the third is opposed: no three vectors are like that.
    for names, cosine in ((("a", "b"), 1.0), (("b", "c"), 1.0), (("a", "c"), -1.0)):
        gram = [[1.0, cosine], [cosine, 1.0]]
        problem = gb.Problem.of(gram, names=names, tasks=("a", "b", "c"))
        solver.update(problem, solver.solve(problem))
    problem = gb.Problem.of(np.eye(3), names=("a", "b", "c"))
    seen = solver._seen(problem).gramian
    assert np.linalg.eigvalsh(seen)[0] >= -1e-12
    assert np.linalg.eigvalsh(solver._averaged(problem))[0] < -0.1
    assert solver.solve(problem).certificate is None


def test_noise_leaves_a_bias_that_no_average_takes_out():
    rng, mean = np.random.default_rng(0), np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    solver = gb.AveragedGramian(gb.MGDA(), decay=0.999)
    for _ in range(4000):
        jac = mean + [[0.0], [1.0]] * rng.standard_normal((2, 3))
        problem = gb.Problem.of(jac @ jac.T)
        solver.update(problem, solver.solve(problem))
    products = solver.state_dict()["products"]
    # The second gradient's noise has the variance 3; its mean has the square 1.
    assert products["1"]["1"] == pytest.approx(4.0, abs=0.4)
    assert products["0"]["1"] == pytest.approx(0.0, abs=0.1)
