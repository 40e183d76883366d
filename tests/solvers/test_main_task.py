import numpy as np
import pytest

import gradbalance as gb
from tests.solvers.nearest_direction import nearest_direction


def draw(seed, num_tasks=5, width=8):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((num_tasks, width)) * 10.0 ** rng.uniform(-1, 1, (num_tasks, 1))


def problem_of(jac, **options):
    return gb.Problem.of(jac @ jac.T, **options)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0, 3.0])
def test_one_main_task_is_in_closed_form(rate):
    for seed in range(30):
        jac, preferences = draw(seed), np.random.default_rng(seed).uniform(0, 2, 5)
        expected = preferences.copy()
        lacking = rate - jac[2] @ (preferences @ jac) / (jac[2] @ jac[2])
        expected[2] += max(0.0, lacking)
        solver = gb.MainTask("2", rate=rate, preferences=preferences)
        np.testing.assert_allclose(solver.solve(problem_of(jac)).weights, expected, rtol=1e-10)


@pytest.mark.parametrize("main", [["a"], ["c", "a"], ["a", "b", "d"]])
@pytest.mark.parametrize("rate", [0.0, 0.5, 2.0])
def test_it_is_the_projection_among_the_parameters(main, rate):
    rows = ["abcde".index(name) for name in main]
    for seed in range(30):
        jac = draw(seed)
        solution = gb.MainTask(main, rate=rate).solve(problem_of(jac, names="abcde"))
        least = rate * (jac[rows] ** 2).sum(axis=1)
        expected = nearest_direction(jac.sum(axis=0), jac[rows], least)
        distance = np.linalg.norm(solution.weights @ jac - expected)
        assert distance <= 1e-6 * np.linalg.norm(expected)
        assert solution.certificate <= 1.0


@pytest.mark.parametrize("main", ["0", ["1", "3"], ["0", "1", "2", "3", "4"]])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0, 5.0])
def test_main_tasks_fall_at_their_rate_and_helpers_weigh_as_they_did(main, rate):
    for seed in range(50):
        jac = draw(seed)
        solution = gb.MainTask(main, rate=rate).solve(problem_of(jac))
        assert solution.status is not gb.Status.ILL_POSED
        direction, norms = solution.weights @ jac, np.linalg.norm(jac, axis=1)
        size = np.abs(solution.weights) @ norms
        rows = [int(name) for name in main]
        products = jac[rows] @ direction
        assert (products >= rate * norms[rows] ** 2 - 1e-12 * norms[rows] * size).all()
        helpers = np.setdiff1d(np.arange(5), rows)
        assert (solution.weights[helpers] == 1.0).all()
        assert (solution.weights >= 1.0).all()


def test_helpers_that_help_leave_the_plain_sum():
    jac = np.array([[1.0, 0.0], [0.5, 3.0], [-0.2, -1.0]])
    assert gb.MainTask().solve(problem_of(jac)).weights.tolist() == [1.0, 1.0, 1.0]


def test_of_a_helper_only_what_opposes_is_taken_out():
    jac = np.array([[1.0, 0.0], [-4.0, 3.0]])
    for rate in (0.0, 0.5, 1.0):
        weights = gb.MainTask(rate=rate).solve(problem_of(jac)).weights
        np.testing.assert_allclose(weights @ jac, [rate, 3.0], atol=1e-12)


def test_main_tasks_that_oppose_each_other_do_not_rise():
    jac = np.array([[1.0, 0.0], [-2.0, 0.0], [3.0, 1.0]])
    solution = gb.MainTask(["0", "1"]).solve(problem_of(jac))
    assert solution.status is gb.Status.ILL_POSED
    np.testing.assert_allclose(solution.weights @ jac, [0.0, 1.0], atol=1e-12)
    solution = gb.MainTask(["0", "1"], rate=0.0).solve(problem_of(jac))
    assert solution.status is gb.Status.CONVERGED
    np.testing.assert_allclose(solution.weights @ jac, [0.0, 1.0], atol=1e-12)


def test_the_first_of_all_tasks_is_the_main_one_by_default():
    gram = [[1.0, -2.0], [-2.0, 9.0]]
    weights = gb.MainTask().solve(gb.Problem.of(gram)).weights
    np.testing.assert_allclose(weights, [3.0, 1.0], rtol=1e-14)
    part = gb.Problem.of(gram, names="bc", tasks="abc")  # without it, no task is protected
    assert gb.MainTask().solve(part).weights.tolist() == [1.0, 1.0]


def test_main_tasks_that_are_absent_or_without_a_gradient_ask_for_nothing():
    gram = [[1.0, -2.0], [-2.0, 9.0]]
    part = gb.Problem.of(gram, names="ab", tasks="abc")
    assert gb.MainTask("c").solve(part).weights.tolist() == [1.0, 1.0]
    weights = gb.MainTask(["c", "a"]).solve(part).weights
    np.testing.assert_allclose(weights, [3.0, 1.0], rtol=1e-14)
    zero = gb.Problem.of([[0.0, 0.0], [0.0, 9.0]], names="ab")
    assert gb.MainTask("a").solve(zero).weights.tolist() == [1.0, 1.0]


def test_a_task_named_twice_counts_once():
    problem = gb.Problem.of([[1.0, -2.0], [-2.0, 9.0]])
    weights = gb.MainTask(["0", "0"]).solve(problem).weights
    np.testing.assert_allclose(weights, [3.0, 1.0], rtol=1e-14)


def test_preferences_weight_the_helpers_by_name():
    problem = gb.Problem.of([[1.0, -2.0], [-2.0, 9.0]], names="ab")
    solver = gb.MainTask("a", preferences={"b": 0.25, "a": 1.0})
    np.testing.assert_allclose(solver.solve(problem).weights, [1.5, 0.25], rtol=1e-14)


def test_a_name_that_no_task_has_is_refused():
    with pytest.raises(ValueError, match=r"main must be one of \['a', 'b'\]; found 'c'"):
        gb.MainTask(["a", "c"]).solve(gb.Problem.of(np.eye(2), names="ab"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"main": []}, "main must be the name of a task, or several"),
        ({"main": [0]}, "main must be the name of a task, or several"),
        ({"rate": -1.0}, r"rate must be a number in \[0, inf\)"),
        ({"rate": float("inf")}, r"rate must be a number in \[0, inf\)"),
        ({"preferences": [-1.0, 1.0]}, r"preferences must be numbers in \[0, inf\)"),
        ({"preferences": [0.0, 0.0]}, "preferences must not be zero for all"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        gb.MainTask(**options)
