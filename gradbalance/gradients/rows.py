"""The Jacobian kept as rows: the gradients of each task, their Gramian and their combinations."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from gradbalance.gradients.ranks import Ranks, widest_dtype

# Legend: T tasks, C columns of the Jacobian at once.


def _buffer_bytes(device: torch.device) -> int:
    """What a CPU's cache holds; elsewhere many small pieces would cost more than the memory."""
    return 2 << 20 if device.type == "cpu" else 64 << 20


class Rows:
    """Gradients of T tasks with respect to the same tensors, as autograd gave them, uncopied.

    Attributes:
        reached: for each task the tensors that its loss reaches, as the keys of a dictionary.
    """

    def __init__(self) -> None:
        self.reached: dict[str, dict[Tensor, None]] = {}
        self._rows: dict[str, dict[Tensor, Tensor]] = {}

    @torch.no_grad()
    def add(
        self,
        task: str,
        reached: Iterable[Tensor],
        gradients: Mapping[Tensor, Tensor],
        factor: float = 1.0,
    ) -> None:
        """Add to the row of a task.

        Args:
            task: whose row.
            reached: the tensors that its loss reaches.
            gradients: of those of them that have one.
            factor: what they are multiplied by.
        """
        self.reached.setdefault(task, {}).update(dict.fromkeys(reached))
        row = self._rows.setdefault(task, {})
        for tensor, gradient in gradients.items():
            part = gradient if factor == 1.0 else gradient * factor
            # Not in place: autograd may have given the same tensor out elsewhere.
            row[tensor] = row[tensor] + part if tensor in row else part

    def add_all(self, other: "Rows", factor: float) -> None:
        """Add the rows of other losses, which may have tensors and tasks of their own."""
        for task, row in other._rows.items():
            self.add(task, other.reached[task], row, factor)

    @property
    def tasks(self) -> list[str]:
        """Those with a row."""
        return list(self._rows)

    def row(self, task: str, tensors: Iterable[Tensor]) -> list[Tensor | None]:
        """The gradients of a task, flattened, tensor by tensor; None is zero."""
        row = self._rows.get(task, {})
        return [_flat(row[tensor]) if tensor in row else None for tensor in tensors]

    @torch.no_grad()
    def gram(
        self, tensors: Sequence[Tensor], tasks: Sequence[str], ranks: Ranks | None = None
    ) -> Tensor:
        """The Gramian J Jᵀ [T, T] over some tensors, summed in the widest dtype.

        With norms spread over six orders of magnitude, float32 sums drown the inner products of
        the small rows and with them the promises of the solvers.

        Args:
            tensors: the columns of J.
            tasks: in this order; those without a row have zeros.
            ranks: where J is the mean over several; each has the products of its own columns.
        """
        devices = {tensor.device: None for tensor in tensors}
        grams = []
        for device in devices:
            here = [tensor for tensor in tensors if tensor.device == device]
            rows = [self.row(task, here) for task in tasks]
            grams.append(_gram(here, rows, device, ranks))
        return sum((gram.to(grams[0]) for gram in grams[1:]), grams[0])

    @torch.no_grad()
    def combine(self, tensor: Tensor, weights: Mapping[str, float]) -> Tensor | None:
        """The direction Σ w_i g_i of a tensor, in its shape and dtype; None where all have none.

        Its rows are given up: what is combined is freed at once.

        Args:
            tensor: of which the gradients are.
            weights: by task; the rows of other tasks take no part, even where they are not finite.
        """
        parts = [(task, row.pop(tensor, None)) for task, row in self._rows.items()]
        weighted = [(p, weights[t]) for t, p in parts if p is not None and t in weights]
        if len(weighted) == 1 and weighted[0][1] == 1.0:
            return weighted[0][0]
        return _combination(weighted, tensor) if weighted else None


def _gram(
    tensors: Sequence[Tensor],
    rows: Sequence[Sequence[Tensor | None]],
    device: torch.device,
    ranks: Ranks | None,
) -> Tensor:
    wide = widest_dtype(device)
    gram_TT = torch.zeros(len(rows), len(rows), dtype=wide, device=device)
    if ranks is None:
        for block_TC in _blocks(tensors, rows, wide):
            gram_TT.addmm_(block_TC, block_TC.T)
        return gram_TT
    for block_TC in _blocks(tensors, rows, None):
        # What is sent is no wider than the rows; zeros make the columns divisible.
        padding = -block_TC.shape[1] % ranks.size
        shard = ranks.mean_shard(functional.pad(block_TC, (0, padding))).to(wide)
        gram_TT.addmm_(shard, shard.T)
    return ranks.add_up(gram_TT)


def _blocks(
    tensors: Sequence[Tensor],
    rows: Sequence[Sequence[Tensor | None]],
    dtype: torch.dtype | None,
) -> Iterator[Tensor]:
    """The columns of J, block by block [T, C] in one buffer.

    Args:
        tensors: the columns, all on one device.
        rows: of each task, tensor by tensor.
        dtype: of the buffer; None for that of the rows, but at least float32.
    """
    if dtype is None:
        dtype = torch.float32
        for tensor in tensors:
            dtype = torch.promote_types(dtype, tensor.dtype)
    device = tensors[0].device
    num_columns = max(1, _buffer_bytes(device) // dtype.itemsize // len(rows))
    num_columns = min(num_columns, sum(tensor.numel() for tensor in tensors))
    buffer_TC = torch.empty(len(rows), num_columns, dtype=dtype, device=device)
    filled = 0
    for length, pieces in _pieces(tensors, rows, num_columns):
        if filled + length > num_columns:
            yield buffer_TC[:, :filled]
            filled = 0
        for target, piece in zip(buffer_TC[:, filled : filled + length], pieces, strict=True):
            target.zero_() if piece is None else target.copy_(piece)
        filled += length
    yield buffer_TC[:, :filled]


def _pieces(
    tensors: Sequence[Tensor], rows: Sequence[Sequence[Tensor | None]], limit: int
) -> Iterator[tuple[int, list[Tensor | None]]]:
    """The same entries of all rows, up to `limit` of them, and how many they are."""
    for tensor, *parts in zip(tensors, *rows, strict=True):
        for start in range(0, tensor.numel(), limit):
            end = min(start + limit, tensor.numel())
            yield end - start, [None if part is None else part[start:end] for part in parts]


def _flat(gradient: Tensor) -> Tensor:
    dense = gradient if gradient.layout == torch.strided else gradient.to_dense()
    return dense.reshape(-1)


def _combination(weighted: Sequence[tuple[Tensor, float]], like: Tensor) -> Tensor:
    """Σ w_i part_i, in the cache piece by piece; low precision is summed in float32."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    total = torch.zeros(like.numel(), dtype=dtype, device=like.device)
    length = max(1, _buffer_bytes(like.device) // 8 // dtype.itemsize)
    flat = [(_flat(part), weight) for part, weight in weighted]
    for start in range(0, len(total), length):
        piece = total[start : start + length]
        for part, weight in flat:
            piece.add_(part[start : start + length], alpha=weight)
    return total.view(like.shape).to(like.dtype)
