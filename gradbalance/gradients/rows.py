"""The Jacobian stored as rows, one per task: their Gramian and their weighted sums."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from gradbalance.gradients.blocks import Columns, columns_of, combination, gram_of
from gradbalance.gradients.matrix import LongRows, Matrix, join
from gradbalance.gradients.ranks import Ranks

_UNKNOWN: Mapping[Tensor, Sequence[str]] = {}
_LARGEST = torch.finfo(torch.float32).max


class Rows:
    """Gradients of T tasks with respect to the same tensors, not copied from autograd's."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[Tensor, Tensor]] = {}
        self._matrices: list[Matrix | LongRows] = []

    def add(self, task: str, gradients: dict[Tensor, Tensor], factor: float = 1.0) -> None:
        """Add to the row of a task.

        Args:
            task: the task.
            gradients: by tensor; the caller must not use this dictionary any more.
            factor: the factor that the gradients are multiplied by.
        """
        if task not in self._rows and factor == 1.0:
            self._rows[task] = gradients
            return
        row = self._rows.setdefault(task, {})
        for tensor, gradient in gradients.items():
            part = gradient if factor == 1.0 else gradient * factor
            # Not in place, because autograd may have returned the same tensor elsewhere too.
            row[tensor] = _sum(row[tensor], part) if tensor in row else part

    def add_all(self, other: "Rows", factor: float) -> None:
        """Add other rows times a factor; they may have other tensors and tasks."""
        for task, row in other._rows.items():
            self.add(task, dict(row), factor)

    @property
    def tasks(self) -> list[str]:
        """The tasks that have a row."""
        return list(self._rows)

    def row(self, task: str, tensors: Iterable[Tensor]) -> list[Tensor | None]:
        """The gradients of a task, tensor by tensor; None stands for zero."""
        row = self._rows.get(task, {})
        return [row.get(tensor) for tensor in tensors]

    def gram(
        self, tensors: Sequence[Tensor], tasks: Sequence[str], ranks: Ranks | None = None
    ) -> Tensor:
        """The Gramian J Jᵀ [T, T] over some tensors, summed in the widest dtype.

        If norms span six orders of magnitude, the inner products of the small rows are lost in
        float32 sums, and the solvers' guarantees with them.

        Args:
            tensors: the columns of J.
            tasks: the order of rows; tasks without a row have zeros.
            ranks: the ranks over which J is averaged; each rank computes products of its share of
                the columns.
        """
        if ranks is None:
            matrix = Matrix.of(tensors, tasks, [self.row(task, tensors) for task in tasks])
            if matrix is not None:
                if matrix.is_full:
                    self._matrices.append(matrix)
                return matrix.gram()
        if LongRows.suit(tensors, [self._rows.get(task, {}) for task in tasks]):
            # One after the other, so that parts are freed once they are joined.
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
        """The direction Σ w_i g_i for each tensor, in its shape and dtype, if any task has a row.

        The rows of these tensors are freed once they are combined.

        Args:
            tensors: the tensors that the gradients belong to.
            weights: by task; rows of other tasks are left out, even if they are not finite.
            wide: whether to sum in the widest dtype. This is needed where terms nearly cancel,
                since float32 would leave only its rounding error.
            reached_by: for each tensor, the only tasks that may have a row, where known.
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
    """The sum, sparse only if both are; torch can add sparse to dense, but not dense to sparse."""
    return other + one if one.is_sparse else one + other
