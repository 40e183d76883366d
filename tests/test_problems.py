"""The landscapes are what they say, and methods go on them where they should."""

import math
from functools import partial

import numpy as np
import pytest
import torch

import gradbalance as gb
from benchmarks.descent import descend
from benchmarks.landscapes import LANDSCAPES
from gradbalance.numerics import Status, min_norm_point

every = pytest.mark.parametrize("name", LANDSCAPES)
WILD = ("toy", "toy, first loss × 0.1", "far pair")  # steep walls, and nearly flat far away
tame = pytest.mark.parametrize("name", [name for name in LANDSCAPES if name not in WILD])


def shortest(landscape, x):
    """The lengths of the shortest convex combinations of the gradients, over the longest one."""
    _, rows = landscape.evaluate(x)
    weights = np.array([min_norm_point(jac @ jac.T).weights for jac in rows])
    norms = np.linalg.norm(rows, axis=2)
    return np.linalg.norm((weights[:, None] @ rows)[:, 0], axis=1) / norms.max(axis=1)


def optimal_points(landscape):
    """Points of the Pareto set without its ends, where a gradient is zero; within it for three."""
    path = landscape.pareto_path()
    if len(landscape.floor) == 3:
        return np.random.default_rng(0).dirichlet(np.ones(3), 40) @ path[:3]
    if len(path) == 2:
        return np.linspace(*path, 27)[1:-1]
    return path[40:-40:40]  # the corners lie on the arc, what is between them only nearly


@every
def test_the_gradients_cancel_on_the_pareto_set(name):
    x = optimal_points(LANDSCAPES[name])
    assert shortest(LANDSCAPES[name], x).max() < 1e-12
    np.testing.assert_allclose(LANDSCAPES[name].distance(x), 0, atol=1e-12)


@every
def test_the_gradients_do_not_cancel_where_the_pareto_set_is_away(name):
    landscape = LANDSCAPES[name]
    x = np.array(landscape.starts)
    assert (landscape.distance(x) > 0.1).all()
    assert shortest(landscape, x).min() > 1e-3


@every
def test_no_loss_lies_below_the_floor(name):
    x = np.random.default_rng(0).uniform(-11, 11, (2000, 2))
    x = np.concatenate([x, optimal_points(LANDSCAPES[name])])
    losses, _ = LANDSCAPES[name].evaluate(x)
    assert (losses >= np.array(LANDSCAPES[name].floor)).all()


@every
def test_distances_are_those_to_the_nearest_of_many_points(name):
    landscape = LANDSCAPES[name]
    x = np.array(landscape.starts)
    path = landscape.pareto_path()
    shares = np.linspace(0, 1, 2000 // len(path) + 2)[:, None, None]
    many = (path[:-1] * (1 - shares) + path[1:] * shares).reshape(-1, 2)
    nearest = np.linalg.norm(x[:, None] - many, axis=2).min(axis=1)
    np.testing.assert_allclose(landscape.distance(x), nearest, rtol=1e-4)


def test_points_within_the_triangle_are_at_distance_zero():
    x = np.array([[0.0, 0.0], [0.0, -1.6]])
    np.testing.assert_allclose(LANDSCAPES["triangle"].distance(x), [0, 1])


def test_the_toy_by_hand():
    toy, scaled = LANDSCAPES["toy"], LANDSCAPES["toy, first loss × 0.1"]
    x = np.array([[0.0, 0.0], [3.0, -2.0], [9.0, 9.0]])
    valley, bend = math.tanh(4.5), math.tanh(9.0)
    expected = [
        [0, 0],
        [math.tanh(1) * ((16 + 3.6) / 10 - 20), math.tanh(1) * ((100 + 3.6) / 10 - 20)],
        [valley * (math.log(8 - bend) + 6), valley * (math.log(1 + bend) + 6)],
    ]
    np.testing.assert_allclose(toy.evaluate(x)[0], expected, rtol=1e-12)
    np.testing.assert_allclose(scaled.evaluate(x)[0], np.array(expected) * [0.1, 1], rtol=1e-12)


@tame
def test_mgda_reaches_the_pareto_set_and_no_loss_rises_on_the_way(name):
    landscape = LANDSCAPES[name]
    solvers = [gb.MGDA() for _ in landscape.starts]
    optimizer = partial(torch.optim.SGD, lr=0.02)
    path = descend(landscape, solvers, landscape.starts, optimizer, num_steps=700)
    losses, _ = landscape.evaluate(path.reshape(-1, 2))
    losses = losses.reshape(*path.shape[:2], -1)
    assert (np.diff(losses, axis=0) <= 1e-12).all()
    assert landscape.distance(path[-1]).max() < 1e-2


def test_uniform_ends_where_the_sum_is_least():
    def end(name):
        solvers = [gb.Uniform() for _ in LANDSCAPES[name].starts]
        optimizer = partial(torch.optim.SGD, lr=0.04)
        return descend(
            LANDSCAPES[name], solvers, LANDSCAPES[name].starts, optimizer, num_steps=300
        )[-1]

    np.testing.assert_allclose(end("steep pair"), [[-19 / 21, 0]] * 5, atol=1e-3)
    np.testing.assert_allclose(end("triangle"), [[-7 / 14, (-7.8 + 1) / 14]] * 5, atol=1e-3)


def test_a_run_is_what_the_balancer_and_an_optimizer_do():
    toy = LANDSCAPES["toy"]
    optimizer = partial(torch.optim.Adam, lr=0.05)
    makers = (gb.MGDA, gb.GradNorm, gb.PCGrad)
    starts = toy.starts[:1] * len(makers)
    path = descend(toy, [make() for make in makers], starts, optimizer, num_steps=30, every=3)
    assert path.shape == (11, 3, 2)
    for visited, make in zip(path.transpose(1, 0, 2), makers, strict=True):
        x = torch.tensor(toy.starts[0], dtype=torch.float64, requires_grad=True)
        stepper, balancer = optimizer([x]), gb.Balancer(make(), gb.SharedParameters([x]))
        for _ in range(30):
            stepper.zero_grad()
            balancer.backward(toy.losses(x[None])[0] - torch.tensor(toy.floor))
            stepper.step()
        np.testing.assert_allclose(x.detach(), visited[-1], rtol=1e-9)


def test_hooks_are_called():
    landscape = LANDSCAPES["pair"]
    solvers = [gb.CRMOGM(Told()) for _ in landscape.starts]
    descend(
        landscape,
        solvers,
        landscape.starts,
        partial(torch.optim.SGD, lr=0.1),
        num_steps=20,
        epoch=6,
    )
    for solver in solvers:
        assert len(solver.solver.seen) == 20
        assert solver.solver.num_epochs == 3
        assert solver.solver.seen == sorted(solver.solver.seen, reverse=True)


class Told(gb.Solver, gb.AfterStep, gb.EndEpoch):
    """Uniform weights; remembers the sums of the losses that it was told of."""

    needs = "losses"
    weighs = "losses"

    def __init__(self):
        self.seen = []
        self.num_epochs = 0

    def solve(self, problem):
        return gb.Solution(np.ones(len(problem.names)), Status.CONVERGED)

    def update(self, problem, solution):
        pass

    def after_step(self, losses):
        self.seen.append(sum(losses.values()))

    def end_epoch(self):
        self.num_epochs += 1

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass
