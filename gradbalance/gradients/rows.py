"""The Jacobian kept as rows: one flat row of gradients a task, its Gramian and its combinations."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

# Legend: T tasks, P numbers in a row.

_CHUNK = 1 << 20  # float64 numbers at once while the Gramian is summed: 8 MB


class Rows:
    """T rows of gradients with respect to the same tensors, on the tensors' devices.

    Args:
        tensors: what is differentiated; fixes the columns.
        tasks: whose gradients; fixes the rows.
    """

    def __init__(self, tensors: Sequence[Tensor], tasks: Iterable[str]) -> None:
        self._tensors = tensors
        self._index = {task: index for index, task in enumerate(tasks)}
        self._jac: dict[torch.device, Tensor] = {}
        self._columns: list[slice] = []
        ends: dict[torch.device, int] = {}
        dtypes: dict[torch.device, torch.dtype] = {}
        for tensor in tensors:
            device = tensor.device
            start = ends.get(device, 0)
            ends[device] = start + tensor.numel()
            self._columns.append(slice(start, ends[device]))
            dtypes[device] = torch.promote_types(dtypes.get(device, tensor.dtype), tensor.dtype)
        for device, num_columns in ends.items():
            self._jac[device] = torch.empty(
                len(self._index), num_columns, dtype=dtypes[device], device=device
            )

    @torch.no_grad()
    def fill(self, task: str, gradients: Sequence[Tensor | None]) -> None:
        """Fill the row of a task; None is a zero gradient."""
        index = self._index[task]
        for tensor, columns, gradient in zip(self._tensors, self._columns, gradients, strict=True):
            row = self._jac[tensor.device][index, columns]
            if gradient is None:
                row.zero_()
            else:
                dense = gradient if gradient.layout == torch.strided else gradient.to_dense()
                row.view(tensor.shape).copy_(dense)

    @torch.no_grad()
    def gram(self) -> Tensor:
        """The Gramian J Jᵀ [T, T], summed in float64 (float32 where the device has no more).

        With norms spread over six orders of magnitude, float32 sums drown the inner products of
        the small rows and with them the promises of the solvers.
        """
        total: Tensor | None = None
        for device, jac_TP in self._jac.items():
            dtype = torch.float32 if device.type == "mps" else torch.float64
            gram_TT = torch.zeros(len(jac_TP), len(jac_TP), dtype=dtype, device=device)
            for chunk in torch.split(jac_TP, max(1, _CHUNK // len(jac_TP)), dim=1):
                wide = chunk.to(dtype)
                gram_TT.addmm_(wide, wide.T)
            total = gram_TT if total is None else total + gram_TT.to(total)
        assert total is not None
        return total

    @torch.no_grad()
    def combine(self, weights: Mapping[str, float]) -> list[Tensor]:
        """The direction Jᵀw, one tensor in the shape and dtype of each of the tensors.

        Args:
            weights: by task; the rows of other tasks take no part, even where they are not finite.
        """
        w = torch.zeros(len(self._index), dtype=torch.float64)
        for task, index in self._index.items():
            if task in weights:
                w[index] = weights[task]
            else:
                for jac_TP in self._jac.values():
                    jac_TP[index].zero_()
        directions = []
        for tensor, columns in zip(self._tensors, self._columns, strict=True):
            block = self._jac[tensor.device][:, columns]
            # Low-precision rows are summed in float32.
            dtype = torch.promote_types(block.dtype, torch.float32)
            with torch.autocast(tensor.device.type, enabled=False):
                direction = w.to(tensor.device, dtype) @ block.to(dtype)
            directions.append(direction.view(tensor.shape).to(tensor.dtype))
        return directions
