import numpy as np
import pytest

import gradbalance as gb
from tests.solvers.nearest_direction import nearest_direction


def problem_of(jac, losses, **options):
    return gb.Problem.of(jac @ jac.T, losses, **options)


def wanted(alpha, beta, losses, bounds, rows):
    """φ, how fast losses are to fall."""
    return np.minimum(alpha * (losses - bounds), beta * (rows**2).sum(axis=1))


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.1, 3.0), (20.0, 0.01)])
def test_one_bound_is_in_closed_form(alpha, beta):
    rng = np.random.default_rng(0)
    for _ in range(30):
        jac, losses = rng.standard_normal((2, 5)), rng.uniform(0.0, 2.0, 2)
        barrier, other = jac
        phi = min(alpha * (losses[0] - 1.0), beta * barrier @ barrier)
        expected = max((phi - other @ barrier) / (barrier @ barrier), 0.0)
        solver = gb.DBGD({"0": 1.0}, alpha=alpha, beta=beta)
        weights = solver.solve(problem_of(jac, losses)).weights
        np.testing.assert_allclose(weights, [expected, 1.0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("bounded", ["a", "ab", "dab"])
def test_it_is_the_projection_among_the_parameters(bounded):
    rows = np.array(["abcde".index(name) for name in bounded])
    rest = np.setdiff1d(np.arange(5), rows)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        jac, losses = rng.standard_normal((5, 8)), rng.uniform(0.0, 2.0, 5)
        bounds = losses[rows] + rng.uniform(-1.0, 0.3, rows.size)
        solver = gb.DBGD(dict(zip(bounded, bounds.tolist(), strict=True)), alpha=2.0, beta=0.7)
        solution = solver.solve(problem_of(jac, losses, names="abcde"))
        least = wanted(2.0, 0.7, losses[rows], bounds, jac[rows])
        expected = nearest_direction(jac[rest].sum(axis=0), jac[rows], least)
        distance = np.linalg.norm(solution.weights @ jac - expected)
        assert distance <= 1e-6 * np.linalg.norm(expected)
        assert solution.certificate <= 1.0
        assert solution.status is gb.Status.CONVERGED


def test_losses_above_their_bounds_fall_as_fast_as_is_asked():
    for seed in range(100):
        rng = np.random.default_rng(seed)
        jac = rng.standard_normal((4, 7)) * 10.0 ** rng.uniform(-1, 1, (4, 1))
        losses, bounds = rng.uniform(0.0, 2.0, 4), rng.uniform(0.0, 2.0, 2)
        alpha, beta = 10.0 ** rng.uniform(-1, 1, 2)
        solver = gb.DBGD({"0": bounds[0], "3": bounds[1]}, alpha=alpha, beta=beta)
        weights = solver.solve(problem_of(jac, losses)).weights
        rows = jac[[0, 3]]
        least = wanted(alpha, beta, losses[[0, 3]], bounds, rows)
        size = np.abs(weights) @ np.linalg.norm(jac, axis=1) * np.linalg.norm(rows, axis=1)
        assert (rows @ (weights @ jac) >= least - 1e-12 * size).all()
        assert (weights[1:3] == 1.0).all()


def test_a_loss_far_above_its_bound_need_not_fall_faster_than_beta():
    problem = gb.Problem.of(np.eye(2), losses=[1e6, 1.0])
    weights = gb.DBGD({"0": 0.0}, beta=2.0).solve(problem).weights
    np.testing.assert_allclose(weights, [2.0, 1.0], rtol=1e-14)


def test_a_loss_below_its_bound_may_rise_until_it_comes_near():
    gram = [[1.0, -1.0], [-1.0, 4.0]]
    for loss, expected in [(0.0, 0.0), (0.4, 0.4), (0.9, 0.9), (1.0, 1.0), (1.5, 1.5), (9.0, 2.0)]:
        weights = gb.DBGD({"0": 1.0}).solve(gb.Problem.of(gram, losses=[loss, 1.0])).weights
        np.testing.assert_allclose(weights, [expected, 1.0], rtol=1e-12, atol=1e-12)


def test_without_bounds_it_is_the_sum_and_with_bounds_on_all_below_them_nothing_moves():
    jac = np.random.default_rng(1).standard_normal((3, 5))
    problem = problem_of(jac, np.ones(3))
    assert gb.DBGD({}).solve(problem).weights.tolist() == [1.0, 1.0, 1.0]
    solution = gb.DBGD({"0": 2.0, "1": 2.0, "2": 2.0}).solve(problem)
    assert solution.weights.tolist() == [0.0, 0.0, 0.0]
    assert solution.status is gb.Status.STATIONARY


def test_preferences_take_the_place_of_ones_and_zeros():
    problem = gb.Problem.of(np.eye(3), losses=[0.5, 1.0, 1.0], names="abc")
    solver = gb.DBGD({"a": 1.0}, preferences={"a": 0.5, "b": 2.0, "c": 3.0})
    assert solver.solve(problem).weights.tolist() == [0.5, 2.0, 3.0]


def test_losses_above_bounds_that_cannot_all_fall_do_not_rise():
    jac = np.array([[1.0, 0.0], [-2.0, 0.0], [3.0, 1.0]])
    solution = gb.DBGD({"0": 0.5, "1": 0.5}).solve(problem_of(jac, np.ones(3)))
    assert solution.status is gb.Status.ILL_POSED
    np.testing.assert_allclose(solution.weights @ jac, [0.0, 1.0], atol=1e-12)


def test_bounds_of_tasks_that_are_absent_or_without_a_gradient_ask_for_nothing():
    solver = gb.DBGD({"a": 0.0, "c": 0.0})
    part = gb.Problem.of(np.eye(2), losses=[2.0, 2.0], names="bc", tasks="abc")
    np.testing.assert_allclose(solver.solve(part).weights, [1.0, 1.0], rtol=1e-14)
    zero = gb.Problem.of(np.diag([0.0, 1.0, 4.0]), losses=[2.0, 2.0, 2.0], names="abc")
    np.testing.assert_allclose(solver.solve(zero).weights, [0.0, 1.0, 0.5], rtol=1e-14)


CENTERS = np.array([[-1.0, 0.0], [2.0, 1.0]])


def descend(solver, start, num_steps=1000, lr=0.02):
    """Two bowls ½‖x − c‖²; their losses in the end."""
    x = np.array(start)
    for _ in range(num_steps):
        jac = x - CENTERS
        x = x - lr * solver.solve(problem_of(jac, 0.5 * (jac**2).sum(axis=1))).weights @ jac
    return 0.5 * ((x - CENTERS) ** 2).sum(axis=1)


@pytest.mark.parametrize("bound", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("start", [[-1.5, 2.0], [3.0, 1.0], [5.0, -4.0]])
def test_the_bounded_loss_ends_at_its_bound_and_the_other_as_low_as_it_can_be_there(bound, start):
    bounded, other = descend(gb.DBGD({"0": bound}), start)
    assert bounded <= bound + 1e-6
    distance = np.linalg.norm(CENTERS[0] - CENTERS[1])
    assert other == pytest.approx(0.5 * (distance - np.sqrt(2 * bound)) ** 2, rel=1e-6)


def test_a_bound_that_does_not_bind_changes_nothing():
    bounded, other = descend(gb.DBGD({"0": 6.0}), [-1.5, 2.0])
    assert other == pytest.approx(0.0, abs=1e-9)
    assert bounded == pytest.approx(5.0, rel=1e-6)


def test_a_bound_of_zero_puts_its_task_first():
    bounded, other = descend(gb.DBGD({"0": 0.0}), [5.0, -4.0])
    assert bounded == pytest.approx(0.0, abs=1e-3)
    assert other == pytest.approx(5.0, rel=0.05)


def test_independent_gradients_can_keep_any_bounds():
    # The first is above its bound, the others are at theirs.
    jac = np.array([[1.0, 0.0, 0.0], [-0.9, 0.3, 0.0], [-1.0, 0.2, 0.0], [0.0, 0.0, 1.0]])
    solver = gb.DBGD({"a": 1.0, "b": 1.0, "c": 0.5})
    solution = solver.solve(problem_of(jac, [2.0, 1.0, 1.0, 0.5], names=["a", "b", "h", "c"]))
    assert solution.status is gb.Status.CONVERGED
    np.testing.assert_allclose((jac @ jac.T @ solution.weights)[:2], [1.0, 0.0], atol=1e-12)


@pytest.mark.parametrize(("length", "bound"), [(1.0, 1e15), (1e-15, 10.0), (0.0, 1e16)])
def test_a_bound_that_is_far_away_lifts_no_other(length, bound):
    jac = np.array([[1.0, 0.0, 0.0], [-0.9, 0.3, 0.0], [-1.0, 0.2, 0.0], [0.0, 0.0, length]])
    solver = gb.DBGD({"a": 1.0, "b": 1.0, "c": bound})
    solution = solver.solve(problem_of(jac, [2.0, 1.0, 1.0, 0.5], names=["a", "b", "h", "c"]))
    assert solution.status is gb.Status.CONVERGED
    np.testing.assert_allclose((jac @ jac.T @ solution.weights)[:2], [1.0, 0.0], atol=1e-12)


def test_a_bound_for_no_task_is_refused():
    with pytest.raises(ValueError, match=r"bounds must be one of \['a', 'b'\]; found 'c'"):
        gb.DBGD({"c": 1.0}).solve(gb.Problem.of(np.eye(2), names="ab"))


@pytest.mark.parametrize(
    ("bounds", "options", "message"),
    [
        ([1.0, 2.0], {}, "bounds must be a number for each task that has one, by name"),
        (1.0, {}, "bounds must be a number for each task that has one, by name"),
        ({"a": float("nan")}, {}, r"bounds must be numbers in \(-inf, inf\)"),
        ({"a": "low"}, {}, r"bounds must be numbers in \(-inf, inf\)"),
        ({"a": 1.0}, {"alpha": 0.0}, r"alpha must be a number in \(0, inf\)"),
        ({"a": 1.0}, {"beta": -1.0}, r"beta must be a number in \(0, inf\)"),
        ({"a": 1.0}, {"preferences": [-1.0]}, r"preferences must be numbers in \[0, inf\)"),
    ],
)
def test_options_out_of_range_are_refused(bounds, options, message):
    with pytest.raises(ValueError, match=message):
        gb.DBGD(bounds, **options)
