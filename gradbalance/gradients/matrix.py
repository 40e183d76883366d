"""Rows whose tensors are joined, to reduce the number of calls.

Short rows become one matrix J, whose Gramian and weighted sums take one product each. Long rows
become one vector each. Where tensors are short, and always on an accelerator, the overhead of a
call per tensor exceeds its work.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gradbalance.gradients.blocks import Columns, combination, gram_of
from gradbalance.gradients.ranks import Ranks
from gradbalance.gradients.torch_private import joined, parted

# Legend: T tasks, P entries of a row.

_SHORT = 16_384  # entries
_LARGEST = 4 << 20  # bytes


@dataclass(frozen=True, eq=False)
class Matrix:
    """The rows of T tasks over some tensors, in float64.

    Attributes:
        tensors: the columns, in this order.
        tasks: the rows.
        entries: J [T, P].
        is_full: whether every task reaches every tensor.
    """

    tensors: Sequence[Tensor]
    tasks: Sequence[str]
    entries: Tensor
    is_full: bool

    @classmethod
    def of(
        cls,
        tensors: Sequence[Tensor],
        tasks: Sequence[str],
        rows: Sequence[Sequence[Tensor | None]],
    ) -> "Matrix | None":
        """Build the matrix; None if it is too large, or not dense and real on a single device.

        Args:
            tensors: the columns.
            tasks: the names of the rows.
            rows: for each task, its gradients; None stands for zero.
        """
        width = sum(map(Tensor.numel, tensors))
        first = tensors[0]
        if not 0 < width * len(tasks) * 8 <= _LARGEST or first.device.type == "mps":
            return None
        if not _calls_dominate(tensors, width):
            return None
        if any(tensor.is_complex() or tensor.device != first.device for tensor in tensors):
            return None
        is_full = True
        parts = []
        for row in rows:
            for tensor, part in zip(tensors, row, strict=True):
                if part is None:
                    is_full = False
                    part = torch.zeros_like(tensor)
                elif part.layout is not torch.strided:
                    return None
                parts.append(part)
        entries = joined(parts).view(len(tasks), width).double()
        return cls(tensors, tasks, entries, is_full)

    def gram(self) -> Tensor:
        """J Jᵀ [T, T]."""
        return self.entries @ self.entries.T

    def combine(self, weights: Mapping[str, float], *, wide: bool = True) -> Sequence[Tensor]:
        """Σ w_i g_i, tensor by tensor; rows of other tasks are left out, even if not finite.

        Args:
            weights: by task; at least one.
            wide: has no effect; sums are always taken in the widest dtype here.
        """
        known = [index for index, task in enumerate(self.tasks) if task in weights]
        rows = self.entries if len(known) == len(self.tasks) else self.entries[known]
        chosen = np.array([[weights[self.tasks[index]] for index in known]])
        direction = torch.from_numpy(chosen).to(rows).mm(rows).view(-1)
        dtypes = [tensor.dtype for tensor in self.tensors]
        if dtypes.count(dtypes[0]) == len(dtypes):
            return parted(direction.to(dtypes[0]), self.tensors)
        parts = parted(direction, self.tensors)
        return [part.to(dtype) for part, dtype in zip(parts, dtypes, strict=True)]


@dataclass(frozen=True, eq=False)
class LongRows:
    """The rows of T tasks over some tensors, one vector per row, in their own dtype.

    Attributes:
        tensors: the columns, in this order.
        tasks: the rows.
        vectors: T vectors [P].
    """

    tensors: Sequence[Tensor]
    tasks: Sequence[str]
    vectors: Sequence[Tensor]

    @staticmethod
    def suit(tensors: Sequence[Tensor], rows: Sequence[Mapping[Tensor, Tensor]]) -> bool:
        """Whether joining is faster, and possible: all rows complete, dense, real, of one dtype.

        Args:
            tensors: the columns.
            rows: for each task, its gradients.
        """
        if len(tensors) == 1 or not _calls_dominate(tensors, sum(map(Tensor.numel, tensors))):
            return False
        if any(tensor not in row for row in rows for tensor in tensors):
            return False
        parts = [*tensors, *(row[tensor] for row in rows for tensor in tensors)]
        kinds = {(part.dtype, part.device, part.layout) for part in parts}
        return len(kinds) == 1 and parts[0].layout is torch.strided and not parts[0].is_complex()

    def gram(self, ranks: Ranks | None) -> Tensor:
        """J Jᵀ [T, T]; with ranks, of the mean of J over them."""
        first = self.vectors[0]
        columns = Columns(len(first), first.dtype, list(self.vectors))
        return gram_of([columns], first.device, ranks)

    def combine(self, weights: Mapping[str, float], *, wide: bool) -> Sequence[Tensor]:
        """Σ w_i g_i, tensor by tensor; rows of other tasks are left out, even if not finite.

        Args:
            weights: by task; at least one.
            wide: whether the sum is taken in the widest dtype.
        """
        pairs = zip(self.tasks, self.vectors, strict=True)
        weighted = [(vector, weights[task]) for task, vector in pairs if task in weights]
        return parted(combination(weighted, self.vectors[0], wide), self.tensors)


def _calls_dominate(tensors: Sequence[Tensor], width: int) -> bool:
    """Whether a call per tensor takes longer than its work; on a CPU, only if tensors are short.

    Args:
        tensors: at least one.
        width: their total number of entries.
    """
    return tensors[0].device.type != "cpu" or width <= _SHORT * len(tensors)


def join(row: MutableMapping[Tensor, Tensor], tensors: Sequence[Tensor]) -> Tensor:
    """Join the gradients of some tensors into one vector; the row then has views of its parts."""
    flat = joined([row[tensor] for tensor in tensors])
    row.update(zip(tensors, parted(flat, tensors), strict=True))
    return flat
