"""The interface of a problem: its losses, its points, and its exact solution."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from examples.pinn.network import Box, Jet

Losses = dict[str, Tensor]
Points = dict[str, Tensor]


class Function(Protocol):
    """The function whose losses are computed: a network, or in tests the exact solution."""

    def __call__(self, points: Tensor) -> Tensor:
        """Return the values [N, m] at points [N, 2]."""

    def jet(self, points: Tensor) -> Jet:
        """Return the values and their derivatives."""


class Problem(ABC):
    """A differential equation on a box in the plane, with conditions that make its solution unique.

    Losses are mean squares in the units of the problem, as for a plain sum.

    Attributes:
        title: The title in tables and pictures.
        axes: Names of the two coordinates.
        box: The lower and the upper end of each coordinate.
        num_outputs: Number m of values of the solution.
        num_compared: How many of these values, from the first on, count for the error.
        equations: Names of the losses of the equations' residuals.
        conditions: Names of the losses of the initial and boundary conditions.
    """

    title: str
    axes: tuple[str, str]
    box: Box
    num_outputs: int = 1
    num_compared: int = 1
    equations: tuple[str, ...] = ("residual",)
    conditions: tuple[str, ...]

    @abstractmethod
    def draw_points(self, num: int, generator: torch.Generator) -> Points:
        """Return points [N, 2] in float64 for the equations and the conditions, by name.

        Args:
            num: Number of points of each kind.
            generator: Random generator.
        """

    @abstractmethod
    def losses(self, function: Function, points: Mapping[str, Tensor]) -> Losses:
        """Return the losses by name, those of the equations first.

        Args:
            function: The function that should solve the problem.
            points: The points at which it is evaluated, as returned by `draw_points`.
        """

    @abstractmethod
    def solution(self, points: Tensor) -> Tensor:
        """Return the exact solution [N, m] at points [N, 2]."""

    def error(self, function: Function, num: int = 101) -> float:
        """Return the relative L2 error on a grid: ‖u − u*‖ / ‖u*‖.

        Args:
            function: The function u that is compared with the exact solution u*.
            num: Number of grid points along each axis.
        """
        points = self.grid(num)
        exact = self.solution(points)[:, : self.num_compared]
        with torch.no_grad():
            found = function(points)[:, : self.num_compared]
        return float((found.double() - exact).norm() / exact.norm())

    def grid(self, num: int) -> Tensor:
        """Return the points [num², 2] of a grid, in float64; the first axis varies slowest."""
        ticks = [torch.linspace(*ends, num, dtype=torch.float64) for ends in self.box]
        first, second = torch.meshgrid(*ticks, indexing="ij")
        return torch.stack((first, second), dim=-1).reshape(-1, 2)

    def inside(self, num: int, generator: torch.Generator) -> Tensor:
        """Return points [num, 2] that are uniformly random in the box."""
        low, high = torch.tensor(self.box, dtype=torch.float64).T
        draws = torch.rand(num, 2, generator=generator, dtype=torch.float64)
        points: Tensor = low + (high - low) * draws
        return points

    def on_side(self, axis: int, end: int, num: int, generator: torch.Generator) -> Tensor:
        """Return random points [num, 2] on one side of the box.

        Args:
            axis: The coordinate that is fixed.
            end: 0 for its lower end, 1 for its upper end.
            num: Number of points.
            generator: Random generator.
        """
        points = self.inside(num, generator)
        points[:, axis] = self.box[axis][end]
        return points


class Steady(Problem):
    """A problem in space, with conditions on all four sides."""

    axes = ("x", "y")

    def draw_points(self, num: int, generator: torch.Generator) -> Points:
        """Draw as many points inside the box as on its four sides together."""
        sides = [self.on_side(axis, end, num // 4, generator) for axis in (0, 1) for end in (0, 1)]
        return {"inside": self.inside(num, generator), "boundary": torch.cat(sides)}


class Evolving(Problem):
    """A problem in time (the first axis) and space, with conditions at the start and both ends."""

    axes = ("t", "x")

    def draw_points(self, num: int, generator: torch.Generator) -> Points:
        """Draw equally many points inside the box, at the start, and on the two ends together."""
        ends = [self.on_side(1, end, num // 2, generator) for end in (0, 1)]
        return {
            "inside": self.inside(num, generator),
            "start": self.on_side(0, 0, num, generator),
            "boundary": torch.cat(ends),
        }


def mean_square(values: Tensor) -> Tensor:
    """Return the mean of the squared residuals over the points."""
    return values.square().mean()
