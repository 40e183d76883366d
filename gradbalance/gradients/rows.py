"""The Jacobian kept as rows: the gradients of each task, their Gramian and their combinations."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

# Legend: T tasks, C columns of the Jacobian at once.

# What a CPU's cache holds; elsewhere many small pieces would cost more than the memory.
_BUFFER_BYTES = {"cpu": 2 << 20}
_OTHER_BUFFER_BYTES = 64 << 20


class Rows:
    """T rows of gradients with respect to the same tensors, as autograd gave them: no copy is made.

    Args:
        tensors: what is differentiated; fixes the columns.
        tasks: whose gradients; fixes the rows.
    """

    def __init__(self, tensors: Sequence[Tensor], tasks: Iterable[str]) -> None:
        self._tensors = list(tensors)
        self._rows: dict[str, list[Tensor | None]] = {task: [] for task in tasks}

    @torch.no_grad()
    def fill(self, task: str, gradients: Sequence[Tensor | None]) -> None:
        """Set the row of a task; None is a zero gradient."""
        self._rows[task] = [None if g is None else _flat(g) for g in gradients]

    @torch.no_grad()
    def add(self, other: "Rows") -> None:
        """Add the rows of other losses; both may have tensors and tasks of their own."""
        places = {id(tensor): index for index, tensor in enumerate(self._tensors)}
        self._tensors += [tensor for tensor in other._tensors if id(tensor) not in places]
        places = {id(tensor): index for index, tensor in enumerate(self._tensors)}
        self.add_tasks(other._rows)
        for task, added in other._rows.items():
            row = self._rows[task]
            for tensor, part in zip(other._tensors, added, strict=True):
                before = row[places[id(tensor)]]
                # Not in place: autograd may have given the same tensor out elsewhere.
                row[places[id(tensor)]] = part if before is None else _sum(before, part)

    def add_tasks(self, tasks: Iterable[str]) -> None:
        """Give those tasks that have no row yet one of zeros, and all rows the same length."""
        for task in tasks:
            self._rows.setdefault(task, [])
        for row in self._rows.values():
            row += [None] * (len(self._tensors) - len(row))

    @torch.no_grad()
    def gram(self) -> Tensor:
        """The Gramian J Jᵀ [T, T], summed in float64 (float32 where the device has no more).

        With norms spread over six orders of magnitude, float32 sums drown the inner products of
        the small rows and with them the promises of the solvers.
        """
        grams = [self._gram_on(device) for device in {t.device: None for t in self._tensors}]
        return sum((gram.to(grams[0]) for gram in grams[1:]), grams[0])

    def _gram_on(self, device: torch.device) -> Tensor:
        num_tasks = len(self._rows)
        dtype = torch.float32 if device.type == "mps" else torch.float64
        size = _BUFFER_BYTES.get(device.type, _OTHER_BUFFER_BYTES)
        num_columns = max(1, size // dtype.itemsize // num_tasks)
        num_columns = min(num_columns, sum(t.numel() for t in self._tensors if t.device == device))
        buffer_TC = torch.empty(num_tasks, num_columns, dtype=dtype, device=device)
        gram_TT = torch.zeros(num_tasks, num_tasks, dtype=dtype, device=device)
        filled = 0
        for piece in self._pieces(device, num_columns):
            length = next(part.numel() for part in piece if part is not None)
            if filled + length > num_columns:
                _add_product(gram_TT, buffer_TC[:, :filled])
                filled = 0
            for row, part in zip(buffer_TC[:, filled : filled + length], piece, strict=True):
                row.zero_() if part is None else row.copy_(part)
            filled += length
        _add_product(gram_TT, buffer_TC[:, :filled])
        return gram_TT

    def _pieces(self, device: torch.device, length: int) -> Iterator[list[Tensor | None]]:
        """The same entries of all rows, up to `length`; those that no task reaches are left out."""
        for index, tensor in enumerate(self._tensors):
            parts = [row[index] for row in self._rows.values()]
            if tensor.device != device or all(part is None for part in parts):
                continue
            for start in range(0, tensor.numel(), length):
                yield [None if part is None else part[start : start + length] for part in parts]

    @torch.no_grad()
    def combine(self, weights: Mapping[str, float]) -> list[Tensor]:
        """The direction Jᵀw, one tensor in the shape and dtype of each of the tensors.

        The rows are given up: what is combined is freed at once.

        Args:
            weights: by task; the rows of other tasks take no part, even where they are not finite.
        """
        directions = []
        for index, tensor in enumerate(self._tensors):
            parts = [row[index] for row in self._rows.values()]
            for row in self._rows.values():
                row[index] = None
            weighted = [
                (part, weights[task])
                for task, part in zip(self._rows, parts, strict=True)
                if task in weights and part is not None
            ]
            directions.append(_combination(weighted, tensor))
        return directions


def _sum(before: Tensor, part: Tensor | None) -> Tensor:
    return before if part is None else before + part


def _flat(gradient: Tensor) -> Tensor:
    dense = gradient if gradient.layout == torch.strided else gradient.to_dense()
    return dense.reshape(-1)


def _add_product(gram_TT: Tensor, buffer_TC: Tensor) -> None:
    gram_TT.addmm_(buffer_TC, buffer_TC.T)


def _combination(weighted: Sequence[tuple[Tensor, float]], like: Tensor) -> Tensor:
    """Σ w_i part_i, in the cache piece by piece; low precision is summed in float32."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    total = torch.zeros(like.numel(), dtype=dtype, device=like.device)
    size = _BUFFER_BYTES.get(like.device.type, _OTHER_BUFFER_BYTES)
    length = max(1, size // 8 // dtype.itemsize)
    for start in range(0, len(total), length):
        piece = total[start : start + length]
        for part, weight in weighted:
            piece.add_(part[start : start + length], alpha=weight)
    return total.view(like.shape).to(like.dtype)
