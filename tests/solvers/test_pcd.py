import numpy as np
import pytest

import gradbalance as gb
from tests.solvers.nearest_direction import nearest_direction


class Authors:
    """Their rule for the rows themselves, with the constant that they add to the means."""

    def __init__(self, primary, tau, beta):
        self.primary, self.tau, self.beta = primary, tau, beta
        self.means, self.num_steps = 0.0, 0

    def direction(self, jac):
        squares = (jac**2).sum(axis=1)
        self.num_steps += 1
        self.means = self.beta * self.means + (1 - self.beta) * squares
        means = self.means / (1 - self.beta**self.num_steps)
        rows = jac / np.sqrt(means + 1e-8)[:, None]
        others = np.delete(rows, self.primary, axis=0)
        least = self.tau * (others**2).sum(axis=1)
        found = nearest_direction(rows[self.primary], others, least)
        return found * np.sqrt(squares[self.primary]) / np.linalg.norm(found)


def problem_of(jac, **options):
    return gb.Problem.of(jac @ jac.T, **options)


@pytest.mark.parametrize("num_tasks", [2, 3, 6])
@pytest.mark.parametrize(("tau", "beta"), [(0.02, 0.999), (0.5, 0.9), (1.0, 0.0), (0.0, 0.5)])
def test_follows_the_authors_rule_over_30_steps(num_tasks, tau, beta):
    rng = np.random.default_rng(num_tasks)
    solver, authors = gb.PCD(tau=tau, beta=beta), Authors(0, tau, beta)
    scales = 10.0 ** rng.uniform(-1, 1, (num_tasks, 1))
    for _ in range(30):
        jac = rng.standard_normal((num_tasks, 9)) * scales * rng.uniform(0.5, 2.0, (num_tasks, 1))
        problem = problem_of(jac)
        solution = solver.solve(problem)
        np.testing.assert_allclose(solution.weights @ jac, authors.direction(jac), rtol=1e-5)
        assert solution.status is gb.Status.CONVERGED
        assert solution.certificate <= 1.0
        solver.update(problem, solution)


def test_the_primary_is_chosen_by_name():
    rng = np.random.default_rng(1)
    solver, authors = gb.PCD(primary="b", tau=0.3, beta=0.8), Authors(1, 0.3, 0.8)
    for _ in range(30):
        jac = rng.standard_normal((3, 7))
        problem = problem_of(jac, names="abc")
        solution = solver.solve(problem)
        np.testing.assert_allclose(solution.weights @ jac, authors.direction(jac), rtol=1e-5)
        solver.update(problem, solution)


def test_two_tasks_by_hand():
    # With lengths of 1 and a cosine of -0.6, the second gets τ + 0.6 and ‖d‖² is 1 + τ² - 0.6²…
    gram = np.array([[4.0, -6.0], [-6.0, 25.0]])
    for tau in (0.0, 0.02, 0.5, 1.0):
        share = tau + 0.6
        length = np.sqrt(1 + share**2 - 2 * share * 0.6)
        expected = 2 / length * np.array([1 / 2, share / 5])
        solution = gb.PCD(tau=tau).solve(gb.Problem.of(gram))
        np.testing.assert_allclose(solution.weights, expected, rtol=1e-12)


def test_where_the_others_fall_anyway_the_primary_is_followed_as_it_is():
    jac = np.array([[3.0, 0.0], [1.0, 2.0], [2.0, -1.0]])
    weights = gb.PCD(tau=0.1).solve(problem_of(jac)).weights
    np.testing.assert_allclose(weights, [1.0, 0.0, 0.0], rtol=1e-14)


@pytest.mark.parametrize("tau", [0.0, 0.02, 1.0])
def test_the_others_fall_and_the_direction_is_as_long_as_the_primarys_gradient(tau):
    rng = np.random.default_rng(2)
    solver = gb.PCD(tau=tau)
    for _ in range(50):
        jac = rng.standard_normal((5, 8)) * 10.0 ** rng.uniform(-2, 2, (5, 1))
        problem = problem_of(jac)
        solution = solver.solve(problem)
        solver.update(problem, solution)
        direction = solution.weights @ jac
        norms = np.linalg.norm(jac, axis=1)
        assert np.linalg.norm(direction) == pytest.approx(norms[0], rel=1e-9)
        assert (jac[1:] @ direction >= -1e-9 * norms[1:] * norms[0]).all()
        if tau > 0:
            assert (jac[1:] @ direction > 0).all()
        else:
            assert jac[0] @ direction >= 0


def test_the_primary_may_rise_for_others_that_oppose_it():
    problem = gb.Problem.of([[1.0, -2.0], [-2.0, 4.0]])
    solution = gb.PCD(tau=0.5).solve(problem)
    np.testing.assert_allclose(problem.gramian @ solution.weights, [-1.0, 2.0], rtol=1e-12)
    solution = gb.PCD(tau=0.0).solve(problem)
    assert solution.weights.tolist() == [0.0, 0.0]
    assert solution.status is gb.Status.STATIONARY


def test_where_the_others_cannot_all_fall_none_of_them_rises():
    jac = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, -3.0]])
    solution = gb.PCD(tau=0.5).solve(problem_of(jac))
    assert solution.status is gb.Status.ILL_POSED
    np.testing.assert_allclose(solution.weights @ jac, [np.sqrt(2), 0.0], atol=1e-12)


def test_lengths_are_those_of_the_running_means_and_not_of_the_step():
    solver = gb.PCD(tau=1.0, beta=0.5)
    first = gb.Problem.of(np.diag([1.0, 1.0]))
    solver.update(first, solver.solve(first))
    assert solver.state_dict()["squares"]["1"] == {"mean": 0.5, "num_steps": 1}
    # v₁ = 0.5·0.5 + 0.5·16 over 1 - 0.25 is 11, v₀ is 1: the second has a length of √(16/11).
    second = gb.Problem.of(np.diag([1.0, 16.0]))
    expected = np.array([1.0, 1.0 / np.sqrt(11)]) / np.sqrt(1 + 16 / 11)
    np.testing.assert_allclose(solver.solve(second).weights, expected, rtol=1e-12)


def test_the_mean_of_a_task_that_comes_late_is_not_drawn_to_zero():
    solver = gb.PCD(tau=1.0, beta=0.5)
    alone = gb.Problem.of([[1.0]], names="a", tasks="ab")
    solver.update(alone, solver.solve(alone))
    weights = solver.solve(gb.Problem.of(np.diag([1.0, 16.0]), names="ab")).weights
    np.testing.assert_allclose(weights, np.array([1.0, 0.25]) / np.sqrt(2), rtol=1e-12)


def test_without_the_primary_or_its_gradient_nothing_moves_and_means_go_on():
    solver = gb.PCD(primary="a", beta=0.5)
    absent = gb.Problem.of(np.eye(2), names="bc", tasks="abc")
    solution = solver.solve(absent)
    assert solution.weights.tolist() == [0.0, 0.0]
    assert solution.status is gb.Status.STATIONARY
    solver.update(absent, solution)
    zero = gb.Problem.of(np.diag([0.0, 2.0, 4.0]), names="abc")
    solution = solver.solve(zero)
    assert solution.weights.tolist() == [0.0, 0.0, 0.0]
    assert solution.status is gb.Status.STATIONARY
    solver.update(zero, solution)
    assert solver.state_dict()["squares"] == {
        "a": {"mean": 0.0, "num_steps": 1},
        "b": {"mean": 0.25 + 1.0, "num_steps": 2},
        "c": {"mean": 0.25 + 2.0, "num_steps": 2},
    }


def test_the_first_of_all_tasks_is_the_primary_also_where_it_is_absent():
    problem = gb.Problem.of(np.eye(2), names="bc", tasks="abc")
    assert gb.PCD().solve(problem).weights.tolist() == [0.0, 0.0]


def test_absent_tasks_keep_their_means():
    solver = gb.PCD(beta=0.9)
    whole = gb.Problem.of(np.diag([1.0, 2.0, 3.0]), names="abc")
    solver.update(whole, solver.solve(whole))
    before = solver.state_dict()["squares"]
    part = gb.Problem.of(np.diag([5.0, 7.0]), names="ac", tasks="abc")
    solver.update(part, solver.solve(part))
    after = solver.state_dict()["squares"]
    assert after["b"] == before["b"]
    assert {name: square["num_steps"] for name, square in after.items()} == {"a": 2, "b": 1, "c": 2}


def test_a_zero_gradient_among_the_others_asks_for_nothing():
    problem = gb.Problem.of([[1.0, 0.0, -0.6], [0.0, 0.0, 0.0], [-0.6, 0.0, 1.0]])
    weights = gb.PCD(tau=0.5).solve(problem).weights
    pair = gb.PCD(tau=0.5).solve(gb.Problem.of([[1.0, -0.6], [-0.6, 1.0]])).weights
    np.testing.assert_allclose(weights, [pair[0], 0.0, pair[1]], rtol=1e-12)


def test_looking_changes_nothing():
    solver, problem = gb.PCD(), gb.Problem.of(np.diag([1.0, 4.0]))
    solver.solve(problem)
    assert solver.state_dict() == {"squares": {}}


def test_a_name_that_no_task_has_is_refused():
    with pytest.raises(ValueError, match=r"primary must be one of \['a', 'b'\]; found 'c'"):
        gb.PCD(primary="c").solve(gb.Problem.of(np.eye(2), names="ab"))


@pytest.mark.parametrize("options", [{"tau": -0.1}, {"tau": 1.5}, {"beta": 1.0}, {"beta": -1e-3}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=r"must be a number in \[0, 1"):
        gb.PCD(**options)
