"""Kovasznay's flow: the Navier-Stokes equations behind a row of cylinders."""

from collections.abc import Mapping
from math import pi, sqrt

import torch
from torch import Tensor

from examples.pinn.problems.problem import Function, Losses, Steady, mean_square

REYNOLDS = 40.0
_RATE = REYNOLDS / 2 - sqrt(REYNOLDS**2 / 4 + 4 * pi**2)


class Kovasznay(Steady):
    """(u·∇)u + ∇p = Δu / Re and ∇·u = 0, with the velocity u, v given on the boundary."""

    title = "Kovasznay flow, Re = 40"
    box = ((-0.5, 1.0), (-0.5, 1.5))
    num_outputs = 3
    num_compared = 2  # without the pressure, which is determined only up to a constant
    equations = ("momentum x", "momentum y", "continuity")
    conditions = ("boundary",)

    def losses(self, function: Function, points: Mapping[str, Tensor]) -> Losses:
        """Residuals of two momentum equations and continuity; error of the boundary velocity."""
        flow = function.jet(points["inside"])
        u, v = flow.value[:, 0], flow.value[:, 1]
        by_x, by_y = flow.first
        inertia = u[:, None] * by_x[:, :2] + v[:, None] * by_y[:, :2]
        pressure = torch.stack([by_x[:, 2], by_y[:, 2]], dim=1)
        momentum = inertia + pressure - flow.second.sum(dim=0)[:, :2] / REYNOLDS
        boundary = points["boundary"]
        off = (function(boundary) - self.solution(boundary))[:, :2]
        return {
            "momentum x": mean_square(momentum[:, 0]),
            "momentum y": mean_square(momentum[:, 1]),
            "continuity": mean_square(by_x[:, 0] + by_y[:, 1]),
            "boundary": off.square().sum(dim=1).mean(),
        }

    def solution(self, points: Tensor) -> Tensor:
        """The exact velocity and pressure."""
        x, y = points[:, :1], points[:, 1:]
        decay = torch.exp(_RATE * x)
        u = 1 - decay * torch.cos(2 * pi * y)
        v = _RATE / (2 * pi) * decay * torch.sin(2 * pi * y)
        return torch.cat([u, v, (1 - decay**2) / 2], dim=1)
