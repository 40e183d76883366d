"""Burgers' equation, whose solution develops a steep front."""

from collections.abc import Mapping
from math import pi

import numpy as np
import torch
from torch import Tensor

from examples.pinn.problems.problem import Evolving, Function, Losses, mean_square

VISCOSITY = 0.01 / pi
_NUM_NODES = 160


class Burgers(Evolving):
    """u_t + u u_x = ν u_xx on t in [0, 1], x in [-1, 1]; u = −sin(πx) at first, 0 at both ends."""

    title = "Burgers, ν = 0.01/π"
    box = ((0.0, 1.0), (-1.0, 1.0))
    conditions = ("initial", "boundary")

    def losses(self, function: Function, points: Mapping[str, Tensor]) -> Losses:
        """The equation's residual, and the errors of u at the start and at both ends."""
        u = function.jet(points["inside"])
        left_over = u.first[0] + u.value * u.first[1] - VISCOSITY * u.second[1]
        at_start = function(points["start"]) + torch.sin(pi * points["start"][:, 1:])
        return {
            "residual": mean_square(left_over),
            "initial": mean_square(at_start),
            "boundary": mean_square(function(points["boundary"])),
        }

    def solution(self, points: Tensor) -> Tensor:
        """The Cole-Hopf solution, a ratio of two heat integrals, by Gauss-Hermite quadrature."""
        nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite.hermgauss(_NUM_NODES))
        t, x = points[:, :1].double(), points[:, 1:].double()
        y = x - torch.sqrt(4 * VISCOSITY * t) * nodes
        exponents = -torch.cos(pi * y) / (2 * pi * VISCOSITY)
        heat = weights * torch.exp(exponents - exponents.amax(dim=1, keepdim=True))
        u = -(heat * torch.sin(pi * y)).sum(dim=1, keepdim=True) / heat.sum(dim=1, keepdim=True)
        return u.to(points.dtype)
