"""A small tanh network that computes its derivatives together with its values."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

Box = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Jet:
    """A function at N points of the plane: its m values, and their derivatives along both axes.

    Attributes:
        value: The values [N, m].
        first: The first derivatives [2, N, m], by axis.
        second: The second derivatives [2, N, m] along each axis; no mixed ones.
    """

    value: Tensor
    first: Tensor
    second: Tensor


class Network(nn.Module):
    """Maps points of a box to values, through tanh layers, and computes the derivatives.

    The forward pass computes the derivatives together with the values, by the chain rule of each
    layer. This takes one forward and one ordinary backward pass; nested ``torch.autograd.grad``
    calls would take several times as long.

    Args:
        box: The lower and the upper end of each axis; inputs are scaled to [-1, 1].
        num_outputs: Number m of values.
        width: Width of each hidden layer.
        depth: Number of hidden layers.
        dtype: The dtype of the parameters.
        generator: Random generator for the initial weights.
    """

    center: Tensor
    radius: Tensor

    def __init__(
        self,
        box: Box,
        num_outputs: int,
        *,
        width: int,
        depth: int,
        dtype: torch.dtype,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        sizes = [2, *[width] * depth, num_outputs]
        linears = [nn.Linear(size, next_size, dtype=dtype) for size, next_size in pairwise(sizes)]
        for layer in linears:
            nn.init.xavier_normal_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(linears)
        low, high = torch.tensor(box, dtype=dtype).T
        self.register_buffer("center", (low + high) / 2)
        self.register_buffer("radius", (high - low) / 2)

    @property
    def linears(self) -> list[nn.Linear]:
        """The layers, typed as ``nn.Linear``."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(self, points: Tensor) -> Tensor:
        """Return the values [N, m].

        Args:
            points: Points [N, 2], in any precision.
        """
        hidden = (points.to(self.center.dtype) - self.center) / self.radius
        *inner, last = self.linears
        for layer in inner:
            hidden = torch.tanh(layer(hidden))
        return last(hidden)  # type: ignore[no-any-return]

    def jet(self, points: Tensor) -> Jet:
        """Return the values and their derivatives.

        Args:
            points: Points [N, 2].
        """
        value = (points - self.center) / self.radius
        first = torch.diag(self.radius.reciprocal())[:, None].expand(2, len(points), 2)
        jet = torch.cat([value[None], first, torch.zeros_like(first)])  # value, first, second
        *inner, last = self.linears
        for layer in inner:
            by_value, by_first, by_second = _split(jet @ layer.weight.T)
            value = torch.tanh(by_value + layer.bias)
            slope = 1 - value * value
            first = slope * by_first
            second = slope * by_second - 2 * value * first * by_first
            jet = torch.cat([value, first, second])
        by_value, by_first, by_second = _split(jet @ last.weight.T)
        return Jet(by_value[0] + last.bias, by_first, by_second)


def _split(jet: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values [1, N, m], first and second derivatives [2, N, m] of a jet [5, N, m].

    This is one split, because the backward pass of each slice would fill a tensor with zeros.
    """
    value, first, second = torch.split(jet, [1, 2, 2])
    return value, first, second
