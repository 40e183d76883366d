"""Landscapes: two-variable problems with a known Pareto set, for tests and pictures."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Landscape(ABC):
    """T losses as functions of a point in the plane.

    Attributes:
        description: a short description, one line.
        starts: the starting points of the runs.
        floor: a lower bound [T] of the losses, for methods that need positive losses.
    """

    description: str
    starts: Points
    floor: tuple[float, ...]

    @abstractmethod
    def losses(self, x: Tensor) -> Tensor:
        """The losses [B, T] at points [B, 2]."""

    @abstractmethod
    def pareto_path(self) -> Array:
        """The corners [K, 2] of the Pareto set or, with three tasks, of its closed boundary."""

    def distance(self, x: Array) -> Array:
        """The distances [B] of points [B, 2] from the Pareto set."""
        path = self.pareto_path()
        begins, sides = path[:-1], np.diff(path, axis=0)
        offsets = x[:, None] - begins
        shares = np.clip((offsets * sides).sum(-1) / (sides**2).sum(-1), 0, 1)
        distances: Array = np.linalg.norm(offsets - shares[..., None] * sides, axis=-1).min(axis=1)
        return distances

    def evaluate(self, x: Array) -> tuple[Array, Array]:
        """Losses [B, T] and their gradients [B, T, 2], with one backward pass per task."""
        leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        losses = self.losses(leaf)
        rows = [torch.autograd.grad(one.sum(), leaf, retain_graph=True)[0] for one in losses.mT]
        return losses.detach().numpy(), torch.stack(rows, dim=1).numpy()


@dataclass(frozen=True)
class Centers(Landscape):
    """Each loss grows with the distance from its centre; the Pareto set is the centres' hull.

    The losses are a_i/2 ‖x − c_i‖² or, if `bounded`, a_i (1 − exp(−‖x − c_i‖²/2)), which are flat
    far away and not convex (for two tasks, a problem of Fonseca and Fleming).
    """

    centers: Points
    steepness: tuple[float, ...]
    bounded: bool = False

    def losses(self, x: Tensor) -> Tensor:
        half_squares = (x[:, None] - x.new_tensor(self.centers)).square().sum(-1) / 2
        shapes = 1 - torch.exp(-half_squares) if self.bounded else half_squares
        return x.new_tensor(self.steepness) * shapes

    def pareto_path(self) -> Array:
        corners = self.centers if len(self.centers) == 2 else (*self.centers, self.centers[0])
        return np.array(corners)

    def distance(self, x: Array) -> Array:
        distances = super().distance(x)
        if len(self.centers) > 2:
            distances[self._inside(x)] = 0.0
        return distances

    def _inside(self, x: Array) -> NDArray[np.bool_]:
        """Whether the barycentric coordinates are all positive."""
        corners = np.vstack([np.array(self.centers).T, np.ones(3)])
        points = np.vstack([x.T, np.ones(len(x))])
        inside: NDArray[np.bool_] = np.linalg.solve(corners, points).min(axis=0) >= 0
        return inside


@dataclass(frozen=True)
class Ellipses(Landscape):
    """½ (x − c_i)ᵀ H_i (x − c_i) for two tasks: the Pareto set is an arc between the centres.

    The arc is x(α) = (α H₁ + (1−α) H₂)⁻¹ (α H₁ c₁ + (1−α) H₂ c₂), 0 ≤ α ≤ 1.
    """

    centers: Points
    hessians: tuple[Points, Points]

    def losses(self, x: Tensor) -> Tensor:
        offsets = x[:, None] - x.new_tensor(self.centers)
        return torch.einsum("bti,tij,btj->bt", offsets, x.new_tensor(self.hessians), offsets) / 2

    def pareto_path(self) -> Array:
        hessians, centers = np.array(self.hessians), np.array(self.centers)
        # x moves fastest when α is near 0 or 1, so the corners have equal steps of an angle, not α.
        shares = np.sin(np.linspace(0, np.pi / 2, 2001)) ** 2
        shares = np.stack([shares, 1 - shares], axis=1)
        pulls = np.einsum("kt,tij,tj->ki", shares, hessians, centers)
        return np.linalg.solve(np.einsum("kt,tij->kij", shares, hessians), pulls[..., None])[..., 0]


@dataclass(frozen=True)
class Toy(Landscape):
    """The toy of CAGrad (arXiv 2110.14048), with Nash-MTL's scale of the first loss (2202.01017).

    For x₂ > 0 there are logarithmic valleys, and for x₂ < 0 two bowls tanh(−x₂/2) q_i(x) with
    q_i = ((x₁ ∓ 7)² + (x₂ + 8)²/10)/10 − 20. The Pareto set lies in the bowls: −7 ≤ x₁ ≤ 7, and x₂
    is where the convex combination that cancels the ∂₁ also cancels the ∂₂, that is

        (x₂ + 8)/50 · c = ½ (1 − c²) ((49 − x₁² + (x₂ + 8)²/10)/10 − 20),   c = tanh(−x₂/2),

    so x₂ is near −8.36 at x₁ = 0 and near −8.44 at the ends. Scaling a loss does not move the set.
    """

    scale: float = 1.0

    def losses(self, x: Tensor) -> Tensor:
        x1, x2 = x[:, :1], x[:, 1:]
        side = x.new_tensor([7.0, -7.0])
        bend = x.new_tensor([1.0, -1.0]) * torch.tanh(x2)
        # (−x₁ − 7)/2 + tanh x₂ for the first task, (−x₁ + 7)/2 − tanh x₂ for the second
        valleys = ((-x1 - side) / 2 + bend).abs().clamp(min=5e-6).log() + 6
        bowls = ((x1 - side).square() + (x2 + 8).square() / 10) / 10 - 20
        above, below = _positive_part(torch.tanh(x2 / 2)), _positive_part(torch.tanh(-x2 / 2))
        return (valleys * above + bowls * below) * x.new_tensor([self.scale, 1.0])

    def pareto_path(self) -> Array:
        x1 = np.linspace(-7, 7, 2001)
        x2 = np.full_like(x1, -8.0)
        for _ in range(100):  # a contraction by about 0.4
            c = np.tanh(-x2 / 2)
            bowl = (49 - x1**2 + (x2 + 8) ** 2 / 10) / 10 - 20
            x2 = -8 + 25 * (1 - c**2) / c * bowl
        return np.stack([x1, x2], axis=1)


def _positive_part(x: Tensor) -> Tensor:
    """max(x, 0), with slope 1 at 0; that of `clamp` there is 1 up to torch 2.13, and 0 after it."""
    return torch.where(x >= 0, x, 0.0)


_AROUND = ((-1.4, 1.3), (0.2, 1.6), (1.5, 0.9), (1.2, -1.2), (-1.0, -1.5))
# From the official code of Nash-MTL and that of FAMO; the floor of the losses is also FAMO's.
_TOY_STARTS = ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0))
_PAIR = ((-1.0, 0.0), (1.0, 0.0))
_TRIANGLE = ((-1.0, -0.6), (1.0, -0.6), (0.0, 1.0))

LANDSCAPES: dict[str, Landscape] = {
    "pair": Centers("two bowls", _AROUND, (0, 0), _PAIR, (1, 1)),
    "steep pair": Centers("two bowls, one 20 times as steep", _AROUND, (0, 0), _PAIR, (20, 1)),
    "bounded pair": Centers("two bounded losses", _AROUND, (0, 0), _PAIR, (1, 1), bounded=True),
    "far pair": Centers(
        "two bounded losses, far apart: a concave front",
        _AROUND,
        (0, 0),
        ((-1.5, 0.0), (1.5, 0.0)),
        (1, 1),
        bounded=True,
    ),
    "ellipses": Ellipses(
        "two elongated bowls",
        _AROUND,
        (0, 0),
        _PAIR,
        (((1.0, 0.0), (0.0, 5.0)), ((3.0, 1.0), (1.0, 1.0))),
    ),
    "triangle": Centers(
        "three bowls, as steep as 10 : 3 : 1", _AROUND, (0, 0, 0), _TRIANGLE, (10, 3, 1)
    ),
    "bounded triangle": Centers(
        "three bounded losses", _AROUND, (0, 0, 0), _TRIANGLE, (1, 2, 4), bounded=True
    ),
    "toy": Toy("CAGrad's toy", _TOY_STARTS, (-21, -21)),
    "toy, first loss × 0.1": Toy("Nash-MTL's toy", _TOY_STARTS, (-2.1, -21), scale=0.1),
}
