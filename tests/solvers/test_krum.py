import numpy as np
import pytest

import gradbalance as gb


def problem_of(jac, **options):
    return gb.Problem.of(jac @ jac.T, **options)


def krum_by_hand(jac, num_byzantine, num_selected):
    """The paper's scores, from the gradients themselves."""
    scores = []
    for i, row in enumerate(jac):
        squares = sorted(((row - other) ** 2).sum() for j, other in enumerate(jac) if j != i)
        scores.append(sum(squares[: len(jac) - num_byzantine - 2]))
    weights = np.zeros(len(jac))
    weights[sorted(range(len(jac)), key=scores.__getitem__)[:num_selected]] = 1 / num_selected
    return weights


@pytest.mark.parametrize("num_selected", [1, 2, 5])
@pytest.mark.parametrize(
    ("num_tasks", "num_byzantine"), [(5, 0), (5, 1), (5, 2), (9, 0), (9, 3), (9, 6)]
)
def test_the_scores_are_the_papers(num_tasks, num_byzantine, num_selected):
    for seed in range(30):
        jac = np.random.default_rng(seed).standard_normal((num_tasks, 6))
        solver = gb.Krum(num_byzantine, num_selected=num_selected)
        expected = krum_by_hand(jac, num_byzantine, num_selected)
        np.testing.assert_array_equal(solver.solve(problem_of(jac)).weights, expected)


def test_squares_of_distances_are_summed():
    jac = np.array([[0.0], [5.0], [5.1], [20.0], [23.0], [26.0]])
    # Of two neighbours each, 5 has the least distances, 0.1 + 5, and 23 the least squares, 9 + 9.
    weights = gb.Krum(2).solve(problem_of(jac)).weights
    assert weights.tolist() == [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("num_selected", [1, 2, 4])
def test_gradients_far_from_the_others_are_left_out(num_selected):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        jac = rng.standard_normal(12) + 0.1 * rng.standard_normal((7, 12))
        jac[[1, 4]] = 50.0 * rng.standard_normal((2, 12))
        weights = gb.Krum(2, num_selected=num_selected).solve(problem_of(jac)).weights
        assert (weights[[1, 4]] == 0.0).all()
        assert weights.sum() == pytest.approx(1.0)
        assert (weights > 0).sum() == num_selected


def test_of_equal_scores_the_first_is_taken():
    assert gb.Krum().solve(gb.Problem.of(np.eye(4))).weights.tolist() == [1.0, 0.0, 0.0, 0.0]
    solution = gb.Krum(num_selected=3).solve(gb.Problem.of(np.zeros((4, 4))))
    np.testing.assert_allclose(solution.weights, [1 / 3, 1 / 3, 1 / 3, 0.0])


def test_equal_gradients_are_neighbours_of_each_other():
    jac = np.array([[5.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert gb.Krum(1).solve(problem_of(jac)).weights.tolist() == [0.0, 1.0, 0.0, 0.0]


def test_where_tasks_are_absent_fewer_neighbours_count():
    jac = np.array([[9.0, 0.0], [1.0, 0.0], [1.1, 0.0]])
    part = problem_of(jac, names="abc", tasks="abcdef")
    assert gb.Krum(2).solve(part).weights.tolist() == [0.0, 1.0, 0.0]
    np.testing.assert_allclose(gb.Krum(2, num_selected=5).solve(part).weights, [1 / 3] * 3)
    alone = gb.Problem.of([[4.0]], names="a", tasks="abcdef")
    assert gb.Krum(3, num_selected=2).solve(alone).weights.tolist() == [1.0]
    pair = gb.Problem.of([[4.0, 1.0], [1.0, 1.0]], names="ab", tasks="abcdef")
    assert gb.Krum(3).solve(pair).weights.tolist() == [1.0, 0.0]


def test_without_byzantine_gradients_few_tasks_are_enough():
    assert gb.Krum().solve(gb.Problem.of([[4.0]])).weights.tolist() == [1.0]
    assert gb.Krum(num_selected=2).solve(gb.Problem.of(np.eye(2))).weights.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(("num_byzantine", "num_selected", "least"), [(2, 1, 5), (0, 7, 7)])
def test_too_few_tasks_are_refused(num_byzantine, num_selected, least):
    solver = gb.Krum(num_byzantine, num_selected=num_selected)
    with pytest.raises(ValueError, match=f"needs at least {least} tasks; found"):
        solver.solve(gb.Problem.of(np.eye(least - 1)))
    assert solver.solve(gb.Problem.of(np.eye(least))).weights.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "options", [{"num_byzantine": -1}, {"num_byzantine": 1.5}, {"num_selected": 0}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="must be an integer of at least"):
        gb.Krum(**options)
