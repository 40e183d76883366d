"""Rows whose tensors are joined, so that what is done to them takes few calls.

Short rows become one matrix J, whose Gramian and combinations are one product each, and long ones a
vector each: where tensors are short, and on an accelerator always, a call for every tensor takes
longer than its work.
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
        """The matrix; None where it is large, or its entries are not plain numbers of one device.

        Args:
            tensors: the columns.
            tasks: the names of the rows.
            rows: for each task its gradients; None is zero.
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
        """Σ w_i g_i, tensor by tensor; rows of other tasks take no part, even if not finite.

        Args:
            weights: by task; at least one.
            wide: taken as it always is here.
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
    """The rows of T tasks over some tensors, a vector each, in their own dtype.

    Attributes:
        tensors: the columns, in this order.
        tasks: the rows.
        vectors: T times [P].
    """

    tensors: Sequence[Tensor]
    tasks: Sequence[str]
    vectors: Sequence[Tensor]

    @staticmethod
    def suit(tensors: Sequence[Tensor], rows: Sequence[Mapping[Tensor, Tensor]]) -> bool:
        """Whether joining pays, and all tasks reach all tensors with plain numbers of one dtype.

        Args:
            tensors: the columns.
            rows: for each task its gradients.
        """
        if len(tensors) == 1 or not _calls_dominate(tensors, sum(map(Tensor.numel, tensors))):
            return False
        if any(tensor not in row for row in rows for tensor in tensors):
            return False
        parts = [*tensors, *(row[tensor] for row in rows for tensor in tensors)]
        kinds = {(part.dtype, part.device, part.layout) for part in parts}
        return len(kinds) == 1 and parts[0].layout is torch.strided and not parts[0].is_complex()

    def gram(self, ranks: Ranks | None) -> Tensor:
        """J Jᵀ [T, T]; of the mean over several ranks, of each the products of its columns."""
        first = self.vectors[0]
        columns = Columns(len(first), first.dtype, list(self.vectors))
        return gram_of([columns], first.device, ranks)

    def combine(self, weights: Mapping[str, float], *, wide: bool) -> Sequence[Tensor]:
        """Σ w_i g_i, tensor by tensor; rows of other tasks take no part, even if not finite.

        Args:
            weights: by task; at least one.
            wide: whether the sum is taken in the widest dtype.
        """
        pairs = zip(self.tasks, self.vectors, strict=True)
        weighted = [(vector, weights[task]) for task, vector in pairs if task in weights]
        return parted(combination(weighted, self.vectors[0], wide), self.tensors)


def _calls_dominate(tensors: Sequence[Tensor], width: int) -> bool:
    """Whether a call for each tensor takes longer than its work: on a CPU where they are short.

    Args:
        tensors: at least one.
        width: how many entries they have together.
    """
    return tensors[0].device.type != "cpu" or width <= _SHORT * len(tensors)


def join(row: MutableMapping[Tensor, Tensor], tensors: Sequence[Tensor]) -> Tensor:
    """The gradients of some tensors as one vector, of which the row holds the parts then."""
    flat = joined([row[tensor] for tensor in tensors])
    row.update(zip(tensors, parted(flat, tensors), strict=True))
    return flat
