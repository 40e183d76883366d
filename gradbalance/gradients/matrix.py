"""Short rows as one matrix J: its Gramian and its combinations are then one product each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Legend: T tasks, P entries of a row.


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
        limit: int,
    ) -> "Matrix | None":
        """The matrix; None where it is large, or its entries are not plain numbers of one device.

        Args:
            tensors: the columns.
            tasks: the names of the rows.
            rows: for each task its gradients; None is zero.
            limit: the most bytes.
        """
        width = sum(map(Tensor.numel, tensors))
        first = tensors[0]
        if not 0 < width * len(tasks) * 8 <= limit or first.device.type == "mps":
            return None
        flat = []
        is_full = True
        for row in rows:
            for tensor, part in zip(tensors, row, strict=True):
                if part is None:
                    is_full = False
                    part = torch.zeros_like(tensor)
                if part.layout != torch.strided or part.is_complex() or part.device != first.device:
                    return None
                flat.append(part.reshape(-1))
        entries = torch.cat(flat).view(len(tasks), width).double()
        return cls(tensors, tasks, entries, is_full)

    def gram(self) -> Tensor:
        """J Jᵀ [T, T]."""
        return self.entries @ self.entries.T

    def combine(self, weights: Mapping[str, float]) -> list[Tensor]:
        """Σ w_i g_i, tensor by tensor; rows of other tasks take no part, even if not finite."""
        known = [index for index, task in enumerate(self.tasks) if task in weights]
        rows = self.entries if len(known) == len(self.tasks) else self.entries[known]
        factors = rows.new_tensor([weights[self.tasks[index]] for index in known])
        direction = factors @ rows
        dtypes = {tensor.dtype for tensor in self.tensors}
        if len(dtypes) == 1:
            direction = direction.to(dtypes.pop())
        # Not views of each other: users change each `.grad` in place.
        sizes = [tensor.numel() for tensor in self.tensors]
        parts = torch.unsafe_split_with_sizes(direction, sizes)
        return [
            part.view(tensor.shape).to(tensor.dtype)
            for part, tensor in zip(parts, self.tensors, strict=True)
        ]
