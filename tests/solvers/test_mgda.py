import numpy as np
import pytest

import gradbalance as gb

JAC = np.array([[3.0, 0.0, 1.0], [-1.0, 2.0, 0.0], [0.5, 0.5, -4.0]])
LOSSES = np.array([0.5, 2.0, 10.0])


def test_two_tasks_by_hand():
    # min |u g1 + (1-u) g2|² with g1 = (2, 2), g2 = (-4, 0): u = (16 + 8)/40 = .6
    weights = gb.MGDA().solve(gb.Problem.of([[8.0, -8.0], [-8.0, 16.0]])).weights
    np.testing.assert_allclose(weights, [0.6, 0.4], rtol=1e-15)


@pytest.mark.parametrize("normalization", ["none", "l2", "loss", "loss+"])
def test_active_tasks_fall_in_the_ratio_of_their_divisors(normalization):
    divisors = {
        "none": np.ones(3),
        "l2": np.linalg.norm(JAC, axis=1),
        "loss": LOSSES,
        "loss+": LOSSES * np.linalg.norm(JAC, axis=1),
    }[normalization]
    problem = gb.Problem.of(JAC @ JAC.T, LOSSES)
    solution = gb.MGDA(normalization=normalization).solve(problem)
    descent = JAC @ (solution.weights @ JAC)
    assert (solution.weights > 0).all()
    np.testing.assert_allclose(descent / divisors, descent[0] / divisors[0], rtol=1e-9)
    assert solution.weights.sum() == pytest.approx(1.0)


def test_a_preferred_task_falls_faster_in_proportion():
    problem = gb.Problem.of(JAC @ JAC.T)
    solution = gb.MGDA(preferences=[1.0, 2.0, 1.0]).solve(problem)
    descent = JAC @ (solution.weights @ JAC)
    np.testing.assert_allclose(descent, descent[0] * np.array([1.0, 2.0, 1.0]), rtol=1e-9)


@pytest.mark.parametrize("normalization", ["loss", "loss+"])
@pytest.mark.parametrize("loss", [0.0, -1.0])
def test_a_loss_that_is_divided_by_must_be_positive(normalization, loss):
    problem = gb.Problem.of(np.eye(2), [1.0, loss], names=["a", "b"])
    with pytest.raises(ValueError, match="'b'"):
        gb.MGDA(normalization=normalization).solve(problem)


def test_tiny_losses_do_not_explode():
    problem = gb.Problem.of(JAC @ JAC.T, [1e-300, 1.0, 1e10])
    weights = gb.MGDA(normalization="loss+").solve(problem).weights
    assert weights.sum() == pytest.approx(1.0)
    assert (weights >= 0).all()


@pytest.mark.parametrize("method", ["frank_wolfe", "away_steps"])
def test_methods_agree_with_the_exact_one(method):
    problem = gb.Problem.of(JAC @ JAC.T)
    exact = gb.MGDA().solve(problem).weights
    solver = gb.MGDA(method=method, tol=1e-6, max_steps=20_000)
    np.testing.assert_allclose(solver.solve(problem).weights, exact, atol=1e-3)


def test_a_limit_of_steps_is_told():
    problem = gb.Problem.of(JAC @ JAC.T)
    solution = gb.MGDA(method="frank_wolfe", max_steps=1).solve(problem)
    assert solution.status is gb.Status.STEP_LIMIT
    assert solution.num_steps == 1


def test_losses_alone_are_not_enough():
    with pytest.raises(ValueError, match="Gramian"):
        gb.MGDA().solve(gb.Problem.of(losses=[1.0, 2.0]))


def test_only_the_ratios_of_the_divisors_matter():
    problems = [gb.Problem.of(JAC @ JAC.T, LOSSES * 2.0**k) for k in (0, -500, 500)]
    weights = [gb.MGDA(normalization="loss").solve(problem).weights for problem in problems]
    assert weights[0].tolist() == weights[1].tolist() == weights[2].tolist()


def test_a_looser_tolerance_takes_fewer_steps():
    problem = gb.Problem.of(JAC @ JAC.T)
    steps = [
        gb.MGDA(method="frank_wolfe", tol=tol, max_steps=20_000).solve(problem).num_steps
        for tol in (1e-1, 1e-4)
    ]
    assert steps[0] < steps[1]
