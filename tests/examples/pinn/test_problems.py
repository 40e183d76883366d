"""Each problem is solved by its solution, and its points are where they are said to be."""

from math import pi

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from examples.pinn.network import Jet, Network
from examples.pinn.problems import PROBLEMS, Problem
from examples.pinn.problems.burgers import VISCOSITY, Burgers

every_problem = pytest.mark.parametrize("name", PROBLEMS)


class Solution:
    """A problem's solution as the losses see a network, differentiated by autograd."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def __call__(self, points: Tensor) -> Tensor:
        return self.problem.solution(points)

    def jet(self, points: Tensor) -> Jet:
        return jet_by_autograd(self, points)


def jet_by_autograd(function: object, points: Tensor) -> Jet:
    points = points.clone().requires_grad_()
    value = function(points)  # type: ignore[operator]
    first, second = [], []
    for output in value.T:
        (by_axis,) = torch.autograd.grad(output.sum(), points, create_graph=True)
        first.append(by_axis)
        twice = [
            torch.autograd.grad(by_axis[:, k].sum(), points, retain_graph=True)[0][:, k]
            for k in (0, 1)
        ]
        second.append(torch.stack(twice, dim=1))
    return Jet(value, torch.stack(first, -1).movedim(1, 0), torch.stack(second, -1).movedim(1, 0))


def points_of(problem: Problem, num: int = 40) -> dict[str, Tensor]:
    return problem.draw_points(num, torch.Generator().manual_seed(3))


@every_problem
def test_the_solution_leaves_nothing_over(name: str) -> None:
    problem = PROBLEMS[name]()
    points = points_of(problem)
    if name == "burgers":  # the quadrature is exact to rounding, and differences of it are not
        points["inside"] = points["inside"][points["inside"][:, 0] > 0.02]
    losses = problem.losses(Solution(problem), points)
    limit = 1e-12 if name == "burgers" else 1e-18
    assert tuple(losses) == problem.equations + problem.conditions
    for key, loss in losses.items():
        assert loss.item() < limit, key
    assert problem.error(Solution(problem)) == 0


@every_problem
def test_another_function_leaves_something_over(name: str) -> None:
    problem = PROBLEMS[name]()
    network = network_of(problem)
    losses = problem.losses(network, points_of(problem))
    assert all(loss.item() > 1e-3 for loss in losses.values())
    assert 0.1 < problem.error(network) < 10


def network_of(problem: Problem, seed: int = 0) -> Network:
    return Network(
        problem.box,
        problem.num_outputs,
        width=6,
        depth=3,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(seed),
    )


@every_problem
def test_the_jet_of_a_network_is_that_of_autograd(name: str) -> None:
    problem = PROBLEMS[name]()
    network, points = network_of(problem), points_of(problem)["inside"]
    found, expected = network.jet(points), jet_by_autograd(network, points)
    torch.testing.assert_close(found.value, network(points), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.first, expected.first, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.second, expected.second, rtol=1e-10, atol=1e-12)


@every_problem
def test_points_lie_in_the_box_and_depend_on_the_seed_alone(name: str) -> None:
    problem = PROBLEMS[name]()
    points, again = points_of(problem), points_of(problem)
    low, high = torch.tensor(problem.box, dtype=torch.float64).T
    for key, drawn in points.items():
        assert drawn.shape == (40, 2)
        assert ((drawn >= low) & (drawn <= high)).all()
        assert torch.equal(drawn, again[key])
        on_sides = ((drawn == low) | (drawn == high)).any(dim=1)
        assert bool(on_sides.all()) == (key != "inside")


def test_burgers_agrees_with_a_method_of_lines() -> None:
    """Fourth-order differences on 2,001 points, and SciPy's stiff integrator in time."""
    x = np.linspace(-1, 1, 2001)
    h = x[1] - x[0]

    def velocity(_: float, u: np.ndarray) -> np.ndarray:
        wide = np.concatenate([-u[2:0:-1], u, -u[-2:-4:-1]])  # odd about both ends
        flux = wide**2 / 2
        slope = (8 * (flux[3:-1] - flux[1:-3]) - (flux[4:] - flux[:-4])) / (12 * h)
        bend = 16 * (wide[3:-1] + wide[1:-3]) - (wide[4:] + wide[:-4]) - 30 * wide[2:-2]
        return VISCOSITY * bend / (12 * h**2) - slope

    times = [0.25, 0.5, 1.0]
    lines = solve_ivp(
        velocity, (0, 1), -np.sin(pi * x), "LSODA", times, lband=2, uband=2, rtol=1e-9, atol=1e-10
    )
    for time, expected in zip(times, lines.y.T, strict=True):
        points = torch.tensor(np.stack([np.full_like(x, time), x], axis=1))
        found = Burgers().solution(points)[:, 0].numpy()
        assert np.abs(found - expected).max() < 1e-4
