import numpy as np
import pytest
import torch

import gradbalance as gb


def draws():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        jac = rng.standard_normal((5, 8)) * 10.0 ** rng.uniform(-2, 2, (5, 1))
        yield jac, gb.Problem.of(jac @ jac.T, names="abcde")


@pytest.mark.parametrize("main", ["a", "d"])
def test_helpers_count_by_their_cosine_with_the_main_task(main):
    at = "abcde".index(main)
    for jac, problem in draws():
        rows = torch.from_numpy(jac)
        cosines = torch.nn.functional.cosine_similarity(rows[at : at + 1], rows).numpy()
        weights = gb.GradCosine(main).solve(problem).weights
        np.testing.assert_allclose(weights, np.maximum(cosines, 0.0), rtol=1e-12, atol=1e-14)
        gates = gb.GradCosine(main, weighted=False).solve(problem).weights
        assert gates.tolist() == (cosines >= 0).astype(float).tolist()
        assert weights[at] == gates[at] == 1.0


@pytest.mark.parametrize("weighted", [True, False])
def test_the_main_task_falls_at_least_as_fast_as_alone(weighted):
    for jac, problem in draws():
        direction = gb.GradCosine(weighted=weighted).solve(problem).weights @ jac
        assert jac[0] @ direction >= (1 - 1e-12) * (jac[0] @ jac[0])


def test_by_hand():
    # Lengths of 2, 5 and 1; cosines of 0.6, and of 0.
    gram = [[4.0, 6.0, 0.0], [6.0, 25.0, -4.0], [0.0, -4.0, 1.0]]
    problem = gb.Problem.of(gram)
    assert gb.GradCosine().solve(problem).weights.tolist() == [1.0, 0.6, 0.0]
    assert gb.GradCosine(weighted=False).solve(problem).weights.tolist() == [1.0, 1.0, 1.0]
    assert gb.GradCosine("1").solve(problem).weights.tolist() == [0.6, 1.0, 0.0]
    assert gb.GradCosine("2", weighted=False).solve(problem).weights.tolist() == [1.0, 0.0, 1.0]


def test_lengths_of_the_helpers_do_not_matter():
    for jac, problem in draws():
        other = jac * [[1.0], [8.0], [0.5], [1.0], [64.0]]
        weights = gb.GradCosine().solve(problem).weights
        scaled = gb.GradCosine().solve(gb.Problem.of(other @ other.T)).weights
        np.testing.assert_allclose(scaled, weights, rtol=1e-12)


@pytest.mark.parametrize("weighted", [True, False])
def test_without_the_main_task_or_its_gradient_no_helper_counts(weighted):
    solver = gb.GradCosine("a", weighted=weighted)
    absent = gb.Problem.of(np.ones((2, 2)), names="bc", tasks="abc")
    assert solver.solve(absent).weights.tolist() == [0.0, 0.0]
    zero = gb.Problem.of(np.diag([0.0, 1.0, 1.0]), names="abc")
    assert solver.solve(zero).weights.tolist() == [1.0, 0.0, 0.0]


def test_the_first_of_all_tasks_is_the_main_one_by_default():
    absent = gb.Problem.of(np.ones((2, 2)), names="bc", tasks="abc")
    assert gb.GradCosine().solve(absent).weights.tolist() == [0.0, 0.0]


def test_a_helper_without_a_gradient_counts_nothing_by_its_cosine():
    problem = gb.Problem.of(np.diag([1.0, 0.0]))
    assert gb.GradCosine().solve(problem).weights.tolist() == [1.0, 0.0]


def test_a_name_that_no_task_has_is_refused():
    with pytest.raises(ValueError, match=r"main must be one of \['a', 'b'\]; found 'c'"):
        gb.GradCosine("c").solve(gb.Problem.of(np.eye(2), names="ab"))
    with pytest.raises(ValueError, match=r"weighted must be one of \[False, True\]; found 'no'"):
        gb.GradCosine(weighted="no")
