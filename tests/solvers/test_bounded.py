import numpy as np
import pytest
import torch

import gradbalance as gb
from gradbalance.solvers.wrappers.wrapper import Wrapper

PROBLEM = gb.Problem.of(np.diag([1.0, 2.0, 4.0, 40.0]))


class Fixed(gb.StatelessSolver):
    """Weights that are given, whatever the problem."""

    needs = "losses"
    weighs = "losses"

    def __init__(self, weights):
        self._weights = np.array(weights, dtype=float)

    def solve(self, problem):
        return gb.Solution(self._weights)


def bounded(weights, ratio):
    problem = gb.Problem.of(losses=np.ones(len(weights)))
    return gb.Bounded(Fixed(weights), ratio=ratio).solve(problem).weights.tolist()


@pytest.mark.parametrize(
    ("weights", "ratio", "expected"),
    [
        ([16, 1, 1, 1], 5, [19 * 5 / 8, 19 / 8, 19 / 8, 19 / 8]),
        ([16, 4, 1, 1], 8, [16 * 22 / 24, 4 * 22 / 24, 2 * 22 / 24, 2 * 22 / 24]),
        ([0, 1], 4, [0.2, 0.8]),
        ([1, 0, 0], 1, [1 / 3, 1 / 3, 1 / 3]),
        ([-1, 3], 3, [0.75, 2.25]),
        ([5, 1, 2], 5, [5, 1, 2]),
        ([0, 0], 5, [0, 0]),
        ([-1, -2], 5, [-1, -2]),
        ([7], 1, [7]),
    ],
)
def test_small_weights_are_raised_at_the_same_sum(weights, ratio, expected):
    assert bounded(weights, ratio) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("ratio", [1.0, 2.0, 5.0, 1e6])
@pytest.mark.parametrize("method", [gb.MGDA(), gb.ConFIG(), gb.PCGrad(), gb.GradNorm()], ids=repr)
def test_no_weight_is_more_than_the_ratio_times_another(method, ratio):
    rng = np.random.default_rng(0)
    for _ in range(50):
        rows = rng.standard_normal((4, 6)) * 10.0 ** rng.uniform(-4, 4, (4, 1))
        problem = gb.Problem.of(rows @ rows.T)
        weights = gb.Bounded(method, ratio=ratio).solve(problem).weights
        own = method.solve(problem).weights
        assert weights.max() <= ratio * weights.min() * (1 + 1e-12)
        assert weights.sum() == pytest.approx(np.maximum(own, 0).sum())
        # Tasks keep their order.
        assert (np.diff(weights[np.argsort(own)]) >= 0).all()


def test_weights_within_the_ratio_are_the_methods_own():
    method = gb.MGDA()
    solution = gb.Bounded(method, ratio=40).solve(PROBLEM)
    assert solution.weights.tolist() == method.solve(PROBLEM).weights.tolist()


def test_weights_change_little_where_the_methods_change_little():
    # An eps more than none, or a hair beyond the ratio, makes no jump.
    assert bounded([1e-12, 1, 3], 5) == pytest.approx(bounded([0, 1, 3], 5), abs=1e-11)
    assert bounded([1, 5 + 1e-12], 5) == pytest.approx(bounded([1, 5], 5), abs=1e-11)


def test_the_method_goes_on_by_its_own_weights():
    wrapped, alone = gb.Bounded(gb.GradNorm(), ratio=1.5), gb.GradNorm()
    for scale in (1.0, 3.0, 9.0):
        problem = gb.Problem.of(np.diag([scale, 1.0]), losses=[scale, 1.0])
        wrapped.update(problem, wrapped.solve(problem))
        alone.update(problem, alone.solve(problem))
    assert wrapped.state_dict() == {"solver": "GradNorm", "state": alone.state_dict()}


def test_a_wrapper_needs_and_weighs_what_the_method_does():
    for make in (gb.Bounded, gb.CRMOGM):
        assert issubclass(make, Wrapper)
        for method in (gb.MGDA(), gb.Uniform(), gb.SI()):
            wrapped = make(method)
            assert wrapped.needs == method.needs
            assert wrapped.weighs == method.weighs
            assert wrapped.takes_zero_losses == method.takes_zero_losses
            assert wrapped.wrapped == (method,)


@pytest.mark.parametrize("scale", [None, "norm"])
@pytest.mark.parametrize("make", [gb.Bounded, gb.CRMOGM])
def test_a_direction_that_is_not_zero_is_not_called_stationary(make, scale):
    # MGDA cancels two opposed gradients; weights that were changed do not.
    x = torch.ones(1, requires_grad=True)
    solver = make(gb.MGDA(), ratio=2) if make is gb.Bounded else make(gb.MGDA(), momentum=0.5)
    balancer = gb.Balancer(solver, scale=scale)
    balancer.backward({"one": x.sum(), "other": x.sum()})  # for an average before
    x.grad = None
    report = balancer.backward({"one": x.sum(), "other": -3 * x.sum()})
    assert report.status is gb.Status.CONVERGED
    assert abs(float(x.grad)) > 0.1
    if scale == "norm":
        assert float(x.grad) == pytest.approx(-2.0)


def test_an_unchanged_direction_that_is_zero_stays_stationary():
    problem = gb.Problem.of([[1.0, -1.5], [-1.5, 2.25]])
    assert gb.MGDA().solve(problem).status is gb.Status.STATIONARY
    assert gb.Bounded(gb.MGDA(), ratio=2).solve(problem).status is gb.Status.STATIONARY
    assert gb.Bounded(gb.MGDA(), ratio=1).solve(problem).status is gb.Status.CONVERGED


@pytest.mark.parametrize("make", [gb.Bounded, gb.CRMOGM])
def test_a_method_without_a_state_is_solved_for_once_a_step(make, monkeypatch):
    calls, solve = [], gb.MGDA.solve
    monkeypatch.setattr(gb.MGDA, "solve", lambda self, p: calls.append(p) or solve(self, p))
    x = torch.ones(2, requires_grad=True)
    balancer = gb.Balancer(make(gb.MGDA()))
    for _ in range(3):
        balancer.backward({"one": x.square().sum(), "other": x[0]})
    assert len(calls) == 3
