"""The Helmholtz equation, whose residual is a thousand times as large as its boundary loss."""

from collections.abc import Mapping
from math import pi

import torch
from torch import Tensor

from examples.pinn.problems.problem import Function, Losses, Steady, mean_square


class Helmholtz(Steady):
    """Δu + k²u = f on [-1, 1]², u = 0 on the boundary; solved by sin(aπx) sin(bπy).

    Args:
        waves: The numbers a and b.
        k: The constant k. 1 gives the problem of Wang, Teng and Perdikaris (arXiv 2001.04536), and
            0 gives Poisson's equation.
        title: The title in tables and pictures.
    """

    box = ((-1.0, 1.0), (-1.0, 1.0))
    conditions = ("boundary",)

    def __init__(
        self,
        waves: tuple[int, int] = (1, 4),
        k: float = 1.0,
        title: str = "Helmholtz, u = sin(πx) sin(4πy)",
    ) -> None:
        self.waves, self.k, self.title = waves, k, title

    def losses(self, function: Function, points: Mapping[str, Tensor]) -> Losses:
        """The equation's residual, and the error of u on the boundary."""
        u = function.jet(points["inside"])
        a, b = self.waves
        source = (self.k**2 - (a * pi) ** 2 - (b * pi) ** 2) * self.solution(points["inside"])
        return {
            "residual": mean_square(u.second[0] + u.second[1] + self.k**2 * u.value - source),
            "boundary": mean_square(function(points["boundary"])),
        }

    def solution(self, points: Tensor) -> Tensor:
        """The exact solution, sin(aπx) sin(bπy)."""
        a, b = self.waves
        return torch.sin(a * pi * points[:, :1]) * torch.sin(b * pi * points[:, 1:])
