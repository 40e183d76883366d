"""The Klein-Gordon equation: four losses, two of them at the same points."""

from collections.abc import Mapping
from math import pi

import torch
from torch import Tensor

from examples.pinn.problems.problem import Evolving, Function, Losses, mean_square


class KleinGordon(Evolving):
    """u_tt − u_xx + u³ = f on [0, 1]², solved by x cos(5πt) + (xt)³ (arXiv 2001.04536)."""

    title = "Klein-Gordon, u = x cos(5πt) + (xt)³"
    box = ((0.0, 1.0), (0.0, 1.0))
    conditions = ("initial", "velocity", "boundary")

    def losses(self, function: Function, points: Mapping[str, Tensor]) -> Losses:
        """The equation's residual; the errors of u and u_t at the start, and of u at both ends."""
        inside, start, boundary = points["inside"], points["start"], points["boundary"]
        t, x = inside[:, :1], inside[:, 1:]
        source = (
            (6 * t * x**3 - 25 * pi**2 * x * torch.cos(5 * pi * t))  # u_tt
            - 6 * x * t**3  # u_xx
            + self.solution(inside) ** 3
        )
        u, at_start = function.jet(inside), function.jet(start)
        return {
            "residual": mean_square(u.second[0] - u.second[1] + u.value**3 - source),
            "initial": mean_square(at_start.value - self.solution(start)),
            "velocity": mean_square(at_start.first[0]),
            "boundary": mean_square(function(boundary) - self.solution(boundary)),
        }

    def solution(self, points: Tensor) -> Tensor:
        """The exact solution, x cos(5πt) + (xt)³."""
        t, x = points[:, :1], points[:, 1:]
        return x * torch.cos(5 * pi * t) + (x * t) ** 3
