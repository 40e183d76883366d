"""Inner products and weighted sums of rows, in blocks of columns and in the widest dtype."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg.blas import dsyrk  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn import functional

from gradbalance.gradients.ranks import Ranks, widest_dtype

# Legend: T tasks, C columns of the Jacobian at once.

# From this many tasks on, computing half of a symmetric product is faster than all of it.
_MANY_TASKS = 8


def _buffer_bytes(device: torch.device) -> int:
    """The size of a CPU's cache; on accelerators, a few large products are faster than many."""
    return 2 << 20 if device.type == "cpu" else 256 << 20


@dataclass(frozen=True)
class Columns:
    """The columns of one tensor: for each task its flat entries, or None for zeros."""

    length: int
    dtype: torch.dtype
    parts: list[Tensor | None]


def columns_of(tensor: Tensor, parts: Sequence[Tensor | None], *, compact: bool) -> Columns:
    """The flat gradients of a tensor; of sparse ones only entries that any of them has."""
    given = [part for part in parts if part is not None]
    if compact and given and all(part.layout == torch.sparse_coo for part in given):
        parts = _touched([None if part is None else part.coalesce() for part in parts])
    flat = [None if part is None else flattened(part) for part in parts]
    length = next((len(part) for part in flat if part is not None), 0)
    if not compact:
        length = tensor.numel() * (2 if tensor.is_complex() else 1)
    return Columns(length, tensor.dtype.to_real(), flat)


def _touched(parts: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Coalesced sparse gradients as dense tensors, over the indices that any of them has."""
    numbers = torch.cat([_numbered(part) for part in parts if part is not None])
    places, where = torch.unique(numbers, return_inverse=True)
    found: list[Tensor | None] = []
    start = 0
    for part in parts:
        if part is None:
            found.append(None)
            continue
        values = part.values()
        dense = values.new_zeros(len(places), *values.shape[1:])
        found.append(dense.index_copy(0, where[start : start + len(values)], values))
        start += len(values)
    return found


def _numbered(part: Tensor) -> Tensor:
    """One number per index tuple of a sparse tensor; numbers are matched far faster than tuples."""
    numbers = part.indices()[0]
    for size, index in zip(part.shape[1:], part.indices()[1:], strict=False):
        numbers = numbers * size + index
    return numbers


def gram_of(columns: Sequence[Columns], device: torch.device, ranks: Ranks | None) -> Tensor:
    """The Gramian [T, T] over these columns; with ranks, of rows averaged over them."""
    wide = widest_dtype(device)
    num_tasks = len(columns[0].parts)
    gram_TT = torch.zeros(num_tasks, num_tasks, dtype=wide, device=device)
    if ranks is None:
        blocks = _blocks(columns, device, wide)
        if device.type == "cpu" and num_tasks >= _MANY_TASKS:
            return _gram_by_halves(blocks, num_tasks)
        for block_TC in blocks:
            gram_TT.addmm_(block_TC, block_TC.T)
        return gram_TT
    narrow = functools.reduce(torch.promote_types, (c.dtype for c in columns), torch.float32)
    for block_TC in _blocks(columns, device, narrow):
        # Sent in a dtype no wider than the rows'; padded so that N divides the number of columns.
        padding = -block_TC.shape[1] % ranks.size
        shard = ranks.mean_shard(functional.pad(block_TC, (0, padding))).to(wide)
        gram_TT.addmm_(shard, shard.T)
    return ranks.add_up(gram_TT)


def _gram_by_halves(blocks: Iterable[Tensor], num_tasks: int) -> Tensor:
    """The Gramian from its upper half, summed by a BLAS function that torch does not offer."""
    upper_TT = np.zeros((num_tasks, num_tasks), order="F")
    for block_TC in blocks:
        columns_CT = block_TC.numpy().T
        upper_TT = dsyrk(1.0, columns_CT, trans=1, beta=1.0, c=upper_TT, overwrite_c=1)
    return torch.from_numpy(upper_TT + np.triu(upper_TT, 1).T)


def _blocks(
    columns: Sequence[Columns], device: torch.device, dtype: torch.dtype
) -> Iterator[Tensor]:
    """The columns of J, block by block [T, C] in one buffer of this dtype."""
    num_tasks = len(columns[0].parts)
    num_columns = max(1, _buffer_bytes(device) // dtype.itemsize // num_tasks)
    num_columns = max(1, min(num_columns, sum(part.length for part in columns)))
    buffer_TC = torch.empty(num_tasks, num_columns, dtype=dtype, device=device)
    filled = 0
    for length, pieces in _pieces(columns, num_columns):
        if filled + length > num_columns:
            yield buffer_TC[:, :filled]
            filled = 0
        for target, piece in zip(buffer_TC[:, filled : filled + length], pieces, strict=True):
            target.zero_() if piece is None else target.copy_(piece)
        filled += length
    yield buffer_TC[:, :filled]


def _pieces(columns: Sequence[Columns], limit: int) -> Iterator[tuple[int, list[Tensor | None]]]:
    """The same columns of all rows, up to `limit` at a time, with their number."""
    for found in columns:
        for start in range(0, found.length, limit):
            end = min(start + limit, found.length)
            yield end - start, [None if part is None else part[start:end] for part in found.parts]


def flattened(gradient: Tensor) -> Tensor:
    """A gradient as one dense row of real numbers; complex numbers become pairs.

    The inner product of complex gradients is therefore Re⟨g_i, g_j⟩.
    """
    dense = gradient if gradient.layout == torch.strided else gradient.to_dense()
    real = torch.view_as_real(dense.resolve_conj()) if dense.is_complex() else dense
    return real.reshape(-1)


def combination(weighted: Sequence[tuple[Tensor, float]], like: Tensor, wide: bool) -> Tensor:
    """Σ w_i part_i, in at least float32; a buffer wider than the result is used piece by piece."""
    real = like.dtype.to_real()
    dtype = torch.promote_types(real, widest_dtype(like.device) if wide else torch.float32)
    if all(part.is_sparse for part, _ in weighted):
        terms = [part.to(torch.promote_types(dtype, part.dtype)) * w for part, w in weighted]
        return functools.reduce(torch.add, terms).to(like.dtype)
    pairs = (2,) if like.is_complex() else ()
    total = torch.empty(like.numel() * (2 if pairs else 1), dtype=real, device=like.device)
    flat = [(flattened(part), weight) for part, weight in weighted]
    length = max(1, len(total))
    if dtype != real:
        length = min(length, max(1, _buffer_bytes(like.device) // 2 // dtype.itemsize))
        buffer = torch.empty(length, dtype=dtype, device=like.device)
    for start in range(0, len(total), length):
        written = total[start : start + length]
        piece = written if dtype == real else buffer[: len(written)]
        piece.zero_()
        for part, weight in flat:
            piece.add_(part[start : start + length], alpha=weight)
        if piece is not written:
            written.copy_(piece)
    combined = total.view((*like.shape, *pairs))
    return torch.view_as_complex(combined) if pairs else combined
