"""The Jacobian kept as rows: the gradients of each task, their Gramian and their combinations."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from gradbalance.gradients.blocks import Columns, columns_of, combination, gram_of
from gradbalance.gradients.matrix import LongRows, Matrix, join
from gradbalance.gradients.ranks import Ranks

_UNKNOWN: Mapping[Tensor, Sequence[str]] = {}
_LARGEST = torch.finfo(torch.float32).max


class Rows:
    """Gradients of T tasks with respect to the same tensors, as autograd gave them, uncopied."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[Tensor, Tensor]] = {}
        self._matrices: list[Matrix | LongRows] = []

    def add(self, task: str, gradients: dict[Tensor, Tensor], factor: float = 1.0) -> None:
        """Add to the row of a task.

        Args:
            task: whose row.
            gradients: by tensor; the dictionary is given up.
            factor: what they are multiplied by.
        """
        if task not in self._rows and factor == 1.0:
            self._rows[task] = gradients
            return
        row = self._rows.setdefault(task, {})
        for tensor, gradient in gradients.items():
            part = gradient if factor == 1.0 else gradient * factor
            # Not in place: autograd may have given the same tensor out elsewhere.
            row[tensor] = _sum(row[tensor], part) if tensor in row else part

    def add_all(self, other: "Rows", factor: float) -> None:
        """Add the rows of other losses, which may have tensors and tasks of their own."""
        for task, row in other._rows.items():
            self.add(task, dict(row), factor)

    @property
    def tasks(self) -> list[str]:
        """Those with a row."""
        return list(self._rows)

    def row(self, task: str, tensors: Iterable[Tensor]) -> list[Tensor | None]:
        """The gradients of a task, tensor by tensor; None is zero."""
        row = self._rows.get(task, {})
        return [row.get(tensor) for tensor in tensors]

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
        if ranks is None:
            matrix = Matrix.of(tensors, tasks, [self.row(task, tensors) for task in tasks])
            if matrix is not None:
                if matrix.is_full:
                    self._matrices.append(matrix)
                return matrix.gram()
        if LongRows.suit(tensors, [self._rows.get(task, {}) for task in tasks]):
            # One after the other: what is joined is freed.
            joined = [join(self._rows[task], tensors) for task in tasks]
            long = LongRows(tensors, tasks, joined)
            self._matrices.append(long)
            return long.gram(ranks)
        rows = [self.row(task, tensors) for task in tasks]
        columns: dict[torch.device, list[Columns]] = {}
        for tensor, *parts in zip(tensors, *rows, strict=True):
            found = columns_of(tensor, parts, compact=ranks is None)
            columns.setdefault(tensor.device, []).append(found)
        grams = [gram_of(on_device, device, ranks) for device, on_device in columns.items()]
        return sum((gram.to(grams[0]) for gram in grams[1:]), grams[0])

    def combine(
        self,
        tensors: Sequence[Tensor],
        weights: Mapping[str, float],
        *,
        wide: bool = True,
        reached_by: Mapping[Tensor, Sequence[str]] = _UNKNOWN,
    ) -> dict[Tensor, Tensor]:
        """The direction Σ w_i g_i of each tensor, in its shape and dtype; none where all have none.

        Their rows are given up: what is combined is freed at once.

        Args:
            tensors: of which the gradients are.
            weights: by task; the rows of other tasks take no part, even where they are not finite.
            wide: whether the sum is taken in the widest dtype, as it must be where its terms nearly
                cancel: what is left would be the rounding of float32.
            reached_by: the only tasks that may have a row of a tensor, where that is known.
        """
        wide = wide or any(abs(weight) > _LARGEST for weight in weights.values())
        for matrix in self._matrices:
            if matrix.tensors is tensors:
                if not weights:
                    return {}
                return dict(zip(tensors, matrix.combine(weights, wide=wide), strict=True))
        combined = {}
        for tensor in tensors:
            weighted = []
            for task in reached_by.get(tensor, self._rows):
                part = self._rows[task].pop(tensor, None) if task in self._rows else None
                if part is not None and task in weights:
                    weighted.append((part, weights[task]))
            if len(weighted) == 1 and weighted[0][1] == 1.0:
                combined[tensor] = weighted[0][0]
            elif weighted:
                combined[tensor] = combination(weighted, tensor, wide)
        return combined


def _sum(one: Tensor, other: Tensor) -> Tensor:
    """The sum, sparse only where both are: torch adds sparse to dense and not dense to sparse."""
    return other + one if one.is_sparse else one + other
