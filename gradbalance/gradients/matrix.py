"""Rows whose tensors are joined, so that what is done to them takes few calls.

Short rows become one matrix J, whose Gramian and combinations are one product each. Long rows on an
accelerator become one vector each: there a call for every tensor takes longer than its work.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# One call each, where `reshape`, `cat`, `split` and `view` are many.
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from gradbalance.gradients.blocks import Columns, buffer_bytes, gram_of
from gradbalance.gradients.ranks import Ranks, widest_dtype

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

        On a CPU its few calls take less time than blocks that stay in the cache, a call for each
        task and tensor, as long as the tensors are short on average.

        Args:
            tensors: the columns.
            tasks: the names of the rows.
            rows: for each task its gradients; None is zero.
        """
        width = sum(map(Tensor.numel, tensors))
        first = tensors[0]
        if not 0 < width * len(tasks) * 8 <= _LARGEST or first.device.type == "mps":
            return None
        if not _calls_dominate(tensors):
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
        flat: Tensor = _flatten_dense_tensors(parts)  # type: ignore[no-untyped-call]
        entries = flat.view(len(tasks), width).double()
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
            return _views(direction.to(dtypes[0]), self.tensors)
        parts = _views(direction, self.tensors)
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
        if len(tensors) == 1 or not _calls_dominate(tensors):
            return False
        kinds = {
            (part.dtype, part.device, part.layout) if tensor in row else None
            for row in rows
            for tensor in tensors
            for part in (row.get(tensor, tensor),)
        }
        kinds |= {(tensor.dtype, tensor.device, torch.strided) for tensor in tensors}
        return len(kinds) == 1 and not tensors[0].is_complex()

    def gram(self, ranks: Ranks | None) -> Tensor:
        """J Jᵀ [T, T]; of the mean over several ranks, of each the products of its columns."""
        first = self.vectors[0]
        columns = Columns(len(first), first.dtype, list(self.vectors))
        return gram_of([columns], first.device, ranks)

    def combine(self, weights: Mapping[str, float], *, wide: bool) -> Sequence[Tensor]:
        """Σ w_i g_i, tensor by tensor, in place of the first row: they are given up.

        Args:
            weights: by task; at least one. Rows of other tasks take no part, even if not finite.
            wide: whether the sum is taken in the widest dtype.
        """
        pairs = zip(self.tasks, self.vectors, strict=True)
        (total, factor), *others = [(v, weights[task]) for task, v in pairs if task in weights]
        dtype = torch.promote_types(
            total.dtype, widest_dtype(total.device) if wide else torch.float32
        )
        length = len(total) if dtype == total.dtype else buffer_bytes(total.device) // 8
        for start in range(0, len(total), length):
            written = total[start : start + length]
            piece = written.to(dtype).mul_(factor)
            for vector, weight in others:
                piece.add_(vector[start : start + length], alpha=weight)
            if piece is not written:
                written.copy_(piece)
        return _views(total, self.tensors)


def _calls_dominate(tensors: Sequence[Tensor]) -> bool:
    """Whether a call for each tensor takes longer than its work: on a CPU where they are short."""
    width = sum(map(Tensor.numel, tensors))
    return tensors[0].device.type != "cpu" or width <= _SHORT * len(tensors)


def join(row: MutableMapping[Tensor, Tensor], tensors: Sequence[Tensor]) -> Tensor:
    """The gradients of some tensors as one vector, of which the row holds the parts then."""
    flat: Tensor = _flatten_dense_tensors([row[t] for t in tensors])  # type: ignore[no-untyped-call]
    row.update(zip(tensors, _views(flat, tensors), strict=True))
    return flat


def _views(flat: Tensor, like: Sequence[Tensor]) -> Sequence[Tensor]:
    """The parts of a vector in the shapes of these tensors."""
    parts: Sequence[Tensor] = _unflatten_dense_tensors(flat, like)  # type: ignore[no-untyped-call]
    return parts
