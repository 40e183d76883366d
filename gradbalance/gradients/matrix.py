"""Short rows as one matrix J: its Gramian and its combinations are then one product each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# One call each, where `reshape`, `cat`, `split` and `view` are many.
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

# Legend: T tasks, P entries of a row.

_SHORT = 16_384  # entries
_LARGEST = 64 << 20  # bytes


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
        if first.device.type == "cpu" and width > _SHORT * len(tensors):
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

    def combine(self, weights: Mapping[str, float]) -> Sequence[Tensor]:
        """Σ w_i g_i, tensor by tensor; rows of other tasks take no part, even if not finite."""
        known = [index for index, task in enumerate(self.tasks) if task in weights]
        rows = self.entries if len(known) == len(self.tasks) else self.entries[known]
        chosen = np.array([[weights[self.tasks[index]] for index in known]])
        direction = torch.from_numpy(chosen).to(rows).mm(rows).view(-1)
        dtypes = [tensor.dtype for tensor in self.tensors]
        if dtypes.count(dtypes[0]) == len(dtypes):
            return _views(direction.to(dtypes[0]), self.tensors)
        parts = _views(direction, self.tensors)
        return [part.to(dtype) for part, dtype in zip(parts, dtypes, strict=True)]


def _views(flat: Tensor, like: Sequence[Tensor]) -> Sequence[Tensor]:
    """The parts of a vector in the shapes of these tensors."""
    parts: Sequence[Tensor] = _unflatten_dense_tensors(flat, like)  # type: ignore[no-untyped-call]
    return parts
