import pytest

import gradbalance as gb


def test_preferences_by_name_and_in_order_agree():
    problem = gb.Problem.of(losses=[1.0, 1.0], names=["b", "a"], tasks=["a", "b", "c"])
    by_name = gb.Uniform(preferences={"a": 2.0, "b": 3.0, "c": 4.0})
    in_order = gb.Uniform(preferences=[2.0, 3.0, 4.0])
    assert by_name.solve(problem).weights.tolist() == [3.0, 2.0]
    assert in_order.solve(problem).weights.tolist() == [3.0, 2.0]


@pytest.mark.parametrize(
    "preferences",
    [
        [1.0],
        [1.0, 1.0, 1.0],
        {"0": 1.0},
        {"0": 1.0, "x": 1.0},
        {"0": 1.0, "1": 1.0, "x": 1.0},
    ],
)
def test_preferences_that_do_not_fit_the_tasks_are_refused(preferences):
    with pytest.raises(ValueError, match=r"preferences must (have|name)"):
        gb.Uniform(preferences=preferences).solve(gb.Problem.of(losses=[1.0, 1.0]))


def test_uniform_takes_a_preference_of_zero():
    solver = gb.Uniform(preferences=[0.0, 1.0])
    assert solver.solve(gb.Problem.of(losses=[1.0, 1.0])).weights.tolist() == [0.0, 1.0]
