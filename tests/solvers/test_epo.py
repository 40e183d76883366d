import cvxpy as cp
import numpy as np
import pytest

import gradbalance as gb


class Authors:
    """The linear program of their code, for the constraints that it sets in each mode.

    Preferences of the mean 1, as in their experiments' order of size.
    """

    def __init__(self, gram, losses, preferences, tol=1e-4):
        preferences = preferences / preferences.mean()
        weighted = preferences * losses
        shares = weighted / weighted.sum()
        logs = np.log(len(losses) * shares)
        self.uneven = shares @ logs
        self.slopes = slopes = gram @ (preferences * (logs - self.uneven))
        self.evens_out = self.uneven > tol
        if self.evens_out:
            least = np.zeros(len(losses))
            if (slopes > 0).any():
                least = np.where(slopes > 0, -np.inf, slopes)
                least[weighted == weighted.max()] = 0.0
            self.objective, self.rows, self.least = slopes, gram, least
        else:
            self.objective = gram.sum(axis=0)
            self.rows = np.vstack([gram, slopes])
            self.least = np.append(np.zeros(len(losses)), min(slopes.max(), 0.0))

    def best(self):
        """The largest value of the objective, over its largest entry; None where none is."""
        weights, kept = cp.Variable(len(self.objective)), np.isfinite(self.least)
        sizes = np.abs(self.rows[kept]).max(axis=1)
        problem = cp.Problem(
            cp.Maximize(self.objective / np.abs(self.objective).max() @ weights),
            [
                weights >= 0,
                cp.sum(weights) == 1,
                (self.rows[kept] / sizes[:, None]) @ weights >= self.least[kept] / sizes,
            ],
        )
        problem.solve(cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
        return problem.value if problem.status == cp.OPTIMAL else None

    def value(self, weights):
        return self.objective @ weights / np.abs(self.objective).max()

    def missed(self, weights):
        """By how much a constraint is missed, at worst."""
        kept = np.isfinite(self.least)
        missed = self.least[kept] - self.rows[kept] @ weights
        return (missed / np.abs(self.rows[kept]).max(axis=1)).max(initial=0.0)


def assert_as_the_authors(gram, losses, preferences):
    """Checks one problem; returns the program and the solution, to look at the mode."""
    solution = gb.EPO(preferences=preferences).solve(gb.Problem.of(gram, losses))
    program = Authors(gram, losses, preferences)
    best = program.best()
    assert solution.status is gb.Status.CONVERGED
    assert (solution.weights >= 0).all()
    assert solution.weights.sum() == pytest.approx(1.0, abs=1e-12)
    if best is None:
        assert (gram @ solution.weights >= -1e-6 * np.abs(gram).max(axis=1)).all()
    else:
        assert program.value(solution.weights) == pytest.approx(best, abs=1e-6)
        assert program.missed(solution.weights) <= 1e-6
    return program, solution


def draw(seed):
    rng = np.random.default_rng(seed)
    num_tasks = int(rng.integers(2, 7))
    jac = rng.standard_normal((num_tasks, num_tasks + 1))
    jac *= 10.0 ** rng.uniform(-1, 1, (num_tasks, 1))
    return rng, jac @ jac.T, rng.uniform(0.3, 3.0, num_tasks)


def test_uneven_losses_are_evened_out_as_in_the_authors_program():
    for seed in range(30):
        rng, gram, preferences = draw(seed)
        program, _ = assert_as_the_authors(gram, rng.uniform(0.1, 5.0, len(gram)), preferences)
        assert program.evens_out


def test_even_losses_all_fall_as_in_the_authors_program():
    for seed in range(30):
        rng, gram, preferences = draw(seed)
        losses = (1 + 3e-3 * rng.standard_normal(len(gram))) / preferences
        program, solution = assert_as_the_authors(gram, losses, preferences)
        assert not program.evens_out
        assert (gram @ solution.weights >= -1e-6 * np.abs(gram).max(axis=1)).all()


def test_where_evening_out_lets_no_loss_fall_none_may_rise():
    num_found, num_held = 0, 0
    for seed in range(150):
        rng, ones = np.random.default_rng(seed), np.ones(4)
        jac, losses = rng.standard_normal((4, 5)), rng.uniform(0.1, 5.0, 4)
        gram = jac @ jac.T
        if (Authors(gram, losses, ones).slopes < 0).all():
            program, solution = assert_as_the_authors(gram, losses, ones)
            assert program.evens_out
            products = gram @ solution.weights
            assert (products >= -1e-6 * np.abs(gram).max(axis=1)).all()
            num_found += 1
            num_held += products.min() < 1e-6
    assert num_found > 3
    assert num_held > 0


def test_even_losses_are_made_no_more_uneven_than_must_be():
    # Whatever lets both fall brings the first, which is larger, further ahead; itself the least.
    gram, losses = np.array([[1.0, 2.0], [2.0, 5.0]]), np.array([1.001, 1.0])
    program, solution = assert_as_the_authors(gram, losses, np.ones(2))
    assert not program.evens_out
    assert (program.slopes < 0).all()
    np.testing.assert_allclose(solution.weights, [1.0, 0.0], atol=1e-9)


def test_the_larger_loss_is_followed_where_they_are_uneven():
    gram = [[4.0, -1.0], [-1.0, 1.0]]
    for losses, expected in [([1.0, 3.0], [0.0, 1.0]), ([3.0, 1.0], [1.0, 0.0])]:
        weights = gb.EPO().solve(gb.Problem.of(gram, losses)).weights
        np.testing.assert_allclose(weights, expected, atol=1e-9)


def test_the_largest_weighted_loss_may_not_rise_and_smaller_ones_may():
    for seed in range(30):
        rng, gram, preferences = draw(seed)
        losses = rng.uniform(0.1, 5.0, len(gram))
        products = gram @ gb.EPO(preferences=preferences).solve(gb.Problem.of(gram, losses)).weights
        largest = (preferences * losses).argmax()
        assert products[largest] >= -1e-6 * np.abs(gram[largest]).max()
    # Opposed gradients: the smaller loss rises.
    opposed = gb.Problem.of([[1.0, -1.0], [-1.0, 1.0]], losses=[1.0, 3.0])
    assert gb.EPO().solve(opposed).weights.tolist() == [0.0, 1.0]


def test_what_counts_as_even_is_an_option():
    problem = gb.Problem.of([[4.0, -1.0], [-1.0, 1.0]], losses=[1.0, 1.5])
    np.testing.assert_allclose(gb.EPO().solve(problem).weights, [0.0, 1.0], atol=1e-9)
    products = problem.gramian @ gb.EPO(tol=0.1).solve(problem).weights
    assert (products >= -1e-9).all()


def test_scales_of_losses_and_gradients_do_not_matter():
    for seed in range(20):
        rng, gram, preferences = draw(seed)
        losses, solver = rng.uniform(0.1, 5.0, len(gram)), gb.EPO(preferences=preferences)
        weights = solver.solve(gb.Problem.of(gram, losses)).weights
        for gram_scale, scale in [(1e-20, 1.0), (1e20, 1.0), (1.0, 1e20), (1.0, 1e-20)]:
            scaled = solver.solve(gb.Problem.of(gram_scale * gram, scale * losses))
            np.testing.assert_allclose(scaled.weights, weights, atol=1e-9)


PEAK = 1 / np.sqrt(2)


def losses_and_rows(x):
    """1 − exp(−‖x ∓ (1, 1)/√2‖²) and their gradients: the front between them is concave."""
    offsets = x - np.array([[PEAK, PEAK], [-PEAK, -PEAK]])
    rest = np.exp(-(offsets**2).sum(axis=1))
    return 1 - rest, 2 * offsets * rest[:, None]


def descend(solver, start, num_steps=600, lr=0.05):
    x = np.array(start)
    for _ in range(num_steps):
        losses, rows = losses_and_rows(x)
        x = x - lr * solver.solve(gb.Problem.of(rows @ rows.T, losses)).weights @ rows
    return x, losses_and_rows(x)[0]


@pytest.mark.parametrize("preferences", [[1.0, 1.0], [1.0, 2.0], [3.0, 1.0], [1.0, 5.0]])
@pytest.mark.parametrize("start", [[0.2, -0.4], [-0.6, 0.1]])
def test_a_concave_front_is_met_where_the_preferences_say_and_not_at_an_end(preferences, start):
    x, losses = descend(gb.EPO(preferences=preferences), start)
    weighted = np.array(preferences) * losses
    assert weighted[0] == pytest.approx(weighted[1], rel=0.05)
    assert x[0] == pytest.approx(x[1], abs=0.02)  # the front is the way between the peaks
    assert np.abs(x).max() < PEAK
    _, ends = descend(gb.Uniform(preferences=preferences), start)
    assert ends.min() < 0.01
    assert ends.max() > 0.95


def test_a_zero_gradient_gets_what_the_others_leave():
    problem = gb.Problem.of(np.diag([1.0, 0.0, 4.0]), losses=[3.0, 1.0, 1.0])
    solution = gb.EPO().solve(problem)
    np.testing.assert_allclose(solution.weights, [1.0, 0.0, 0.0], atol=1e-9)
    zero = gb.EPO(preferences=[1.0, 3.0]).solve(gb.Problem.of(np.zeros((2, 2)), [1.0, 2.0]))
    assert zero.status is gb.Status.STATIONARY
    assert zero.weights.tolist() == [0.25, 0.75]


def test_one_task_has_all_the_weight():
    assert gb.EPO().solve(gb.Problem.of([[4.0]], [3.0])).weights.tolist() == [1.0]


def test_preferences_are_those_of_the_tasks_that_take_part():
    gram = [[4.0, -1.0], [-1.0, 1.0]]
    part = gb.Problem.of(gram, [1.0, 1.0], names="bc", tasks="abc")
    solver = gb.EPO(preferences={"a": 100.0, "b": 1.0, "c": 3.0})
    whole = gb.EPO(preferences=[1.0, 3.0]).solve(gb.Problem.of(gram, [1.0, 1.0]))
    assert solver.solve(part).weights.tolist() == whole.weights.tolist()


@pytest.mark.parametrize("loss", [0.0, -1.0])
def test_losses_that_are_not_positive_are_refused(loss):
    with pytest.raises(ValueError, match=r"must be positive; found .* for task 'b'"):
        gb.EPO().solve(gb.Problem.of(np.eye(2), [1.0, loss], names="ab"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preferences": [1.0, 0.0]}, r"preferences must be numbers in \(0, inf\)"),
        ({"preferences": [1.0]}, "preferences must have one number a task; found 1"),
        ({"preferences": {"a": 1.0, "c": 1.0}}, "preferences must name every task"),
        ({"tol": 0.0}, r"tol must be a number in \(0, inf\)"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        gb.EPO(**options).solve(gb.Problem.of(np.eye(2), names="ab"))


def test_losses_that_are_even_but_for_rounding_are_no_ill_posed_problem():
    for seed in range(60):
        _, gram, preferences = draw(seed)
        solution = gb.EPO(preferences=preferences).solve(gb.Problem.of(gram, 1 / preferences))
        assert solution.status is gb.Status.CONVERGED
        assert (gram @ solution.weights >= -1e-6 * np.abs(gram).max(axis=1)).all()
