"""Seeded linear sketches of rows, to estimate inner products of long rows from short ones."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gradbalance.gradients.blocks import flattened
from gradbalance.gradients.ranks import Ranks, widest_dtype

# Legend: T tasks, d numbers in a sketch.

_PIECE = 1 << 16  # the number of entries processed at once, so that intermediates stay in the cache


class Sketch:
    r"""A random linear map S from rows [P] to [d] that preserves inner products in expectation.

    .. math:: (Sx)_k = \sum_{j:\; (j + o) \bmod d = k} s_j x_j, \qquad
        \mathrm{E}\,\langle Sx, Sy \rangle = \langle x, y \rangle

    with random signs s_j = ±1, and a random shift o for each tensor. The standard deviation of a
    cosine is at most about √(2/d); with d ≥ P the map is exact. d is prime, so that the entries
    that are added up do not come from the same column of a weight, which are often large together.

    Args:
        size: d, rounded down to a prime.
        seed: the seed of signs and shifts, which are the same on every device and at every step.
    """

    def __init__(self, size: int, *, seed: int = 0) -> None:
        self.size = _largest_prime(size)
        self._seed = seed
        self._drawn: dict[tuple[int, int, torch.device], tuple[Tensor, int]] = {}

    @torch.no_grad()
    def apply(self, row: Sequence[Tensor | None], like: Sequence[Tensor]) -> Tensor:
        """The sketch [d] of a row, in float32 or the tensors' wider dtype.

        Args:
            row: the gradients of the row, tensor by tensor; None stands for zero.
            like: the tensors.
        """
        dtype = torch.float32
        for tensor in like:
            dtype = torch.promote_types(dtype, tensor.dtype.to_real())
        total = torch.zeros(self.size, dtype=dtype, device=like[0].device)
        for index, gradient in enumerate(row):
            if gradient is not None:
                row_of_tensor = flattened(gradient)
                signs, shift = self._draw(index, row_of_tensor)
                folded = self._fold(row_of_tensor, signs, dtype)
                total += folded.roll(shift).to(total.device)
        return total

    def _fold(self, flat: Tensor, signs: Tensor, dtype: torch.dtype) -> Tensor:
        folded = torch.zeros(self.size, dtype=dtype, device=flat.device)
        step = max(1, _PIECE // self.size) * self.size
        for start in range(0, len(flat), step):
            signed = flat[start : start + step].to(dtype) * signs[start : start + step]
            whole = len(signed) // self.size * self.size
            folded += signed[:whole].view(-1, self.size).sum(dim=0)
            folded[: len(signed) - whole] += signed[whole:]
        return folded

    def _draw(self, index: int, gradient: Tensor) -> tuple[Tensor, int]:
        """The signs and the shift for the tensor at this index, drawn once; one byte per entry."""
        key = (index, gradient.numel(), gradient.device)
        if key not in self._drawn:
            generator = torch.Generator("cpu").manual_seed(self._seed * 1_000_003 + index)
            shift = int(torch.randint(self.size, (), generator=generator, device="cpu"))
            signs = torch.empty(gradient.numel(), dtype=torch.int8, device="cpu")
            signs.random_(0, 2, generator=generator).mul_(2).sub_(1)
            self._drawn[key] = (signs.to(gradient.device), shift)
        return self._drawn[key]


@torch.no_grad()
def sketched_gram(sketches: Sequence[Tensor], ranks: Ranks | None = None) -> Tensor:
    """The Gramian of sketches [T, T], in the widest dtype of the device.

    Args:
        sketches: the sketch [d] of each row.
        ranks: the ranks over which rows are averaged; sketches are linear, and averaged too.
    """
    sketches_Td = torch.stack(list(sketches))
    if ranks is not None:
        sketches_Td = ranks.add_up(sketches_Td) / ranks.size
    wide = sketches_Td.to(widest_dtype(sketches_Td.device))
    return wide @ wide.T


def _largest_prime(limit: int) -> int:
    """The largest prime up to a limit of at least 2."""
    return next(
        n for n in range(limit, 1, -1) if all(n % divisor for divisor in range(2, int(n**0.5) + 1))
    )
