"""The Jacobian kept as rows: the gradients of each task, their Gramian and their combinations."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from gradbalance.gradients.ranks import Ranks

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
        known = {id(tensor) for tensor in self._tensors}
        self._tensors += [tensor for tensor in other._tensors if id(tensor) not in known]
        places = {id(tensor): index for index, tensor in enumerate(self._tensors)}
        for task in other._rows:
            self._rows.setdefault(task, [])
        for row in self._rows.values():
            row += [None] * (len(self._tensors) - len(row))
        for task, added in other._rows.items():
            row = self._rows[task]
            for tensor, part in zip(other._tensors, added, strict=True):
                before = row[places[id(tensor)]]
                # Not in place: autograd may have given the same tensor out elsewhere.
                row[places[id(tensor)]] = part if before is None else _sum(before, part)

    @property
    def num_columns(self) -> int:
        """The length of a row."""
        return sum(tensor.numel() for tensor in self._tensors)

    @torch.no_grad()
    def gram(self, tasks: Sequence[str], ranks: Ranks | None = None) -> Tensor:
        """The Gramian J Jᵀ [T, T], summed in float64 (float32 where the device has no more).

        With norms spread over six orders of magnitude, float32 sums drown the inner products of
        the small rows and with them the promises of the solvers.

        Args:
            tasks: in this order; those without a row have zeros.
            ranks: where J is the mean over several; each has the products of its own columns.
        """
        devices = {tensor.device: None for tensor in self._tensors}
        grams = [self._gram_on(device, tasks, ranks) for device in devices]
        return sum((gram.to(grams[0]) for gram in grams[1:]), grams[0])

    def _gram_on(self, device: torch.device, tasks: Sequence[str], ranks: Ranks | None) -> Tensor:
        wide = torch.float32 if device.type == "mps" else torch.float64
        gram_TT = torch.zeros(len(tasks), len(tasks), dtype=wide, device=device)
        if ranks is None:
            for block_TC in self._blocks(device, tasks, wide):
                gram_TT.addmm_(block_TC, block_TC.T)
            return gram_TT
        for block_TC in self._blocks(device, tasks, None):
            # What is sent is no wider than the rows; zeros make the columns divisible.
            padding = -block_TC.shape[1] % ranks.size
            shard = ranks.mean_shard(functional.pad(block_TC, (0, padding))).to(wide)
            gram_TT.addmm_(shard, shard.T)
        return ranks.add_up(gram_TT)

    def _blocks(
        self, device: torch.device, tasks: Sequence[str], dtype: torch.dtype | None
    ) -> Iterator[Tensor]:
        """The columns of J on a device, block by block [T, C] in one buffer.

        Args:
            device: which.
            tasks: the rows.
            dtype: of the buffer; None for that of the rows, but at least float32.
        """
        here = [tensor for tensor in self._tensors if tensor.device == device]
        if dtype is None:
            dtype = torch.float32
            for tensor in here:
                dtype = torch.promote_types(dtype, tensor.dtype)
        size = _BUFFER_BYTES.get(device.type, _OTHER_BUFFER_BYTES)
        num_columns = max(1, size // dtype.itemsize // len(tasks))
        num_columns = min(num_columns, sum(tensor.numel() for tensor in here))
        buffer_TC = torch.empty(len(tasks), num_columns, dtype=dtype, device=device)
        filled = 0
        for length, piece in self._pieces(device, tasks, num_columns):
            if filled + length > num_columns:
                yield buffer_TC[:, :filled]
                filled = 0
            for row, part in zip(buffer_TC[:, filled : filled + length], piece, strict=True):
                row.zero_() if part is None else row.copy_(part)
            filled += length
        yield buffer_TC[:, :filled]

    def _pieces(
        self, device: torch.device, tasks: Sequence[str], limit: int
    ) -> Iterator[tuple[int, list[Tensor | None]]]:
        """The same entries of all rows, up to `limit` of them, and how many they are."""
        for index, tensor in enumerate(self._tensors):
            if tensor.device != device:
                continue
            parts = [self._rows[task][index] if task in self._rows else None for task in tasks]
            for start in range(0, tensor.numel(), limit):
                end = min(start + limit, tensor.numel())
                yield end - start, [None if part is None else part[start:end] for part in parts]

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
