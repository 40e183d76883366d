"""Whether the ranks still hold the same parameters: a few digits of sums over them."""

import weakref
from collections.abc import Iterable

import torch
from torch import Tensor

from gradbalance.gradients.parameters import is_sharded
from gradbalance.gradients.ranks import widest_dtype

# Ranks with other hardware may sum in another order, which shows in the last of 16 digits.
_DIGITS = 9


class Replicas:
    """Parameters of this rank, held weakly, of which the others have the same.

    Args:
        parameters: those that are watched; parts of a parameter that lies over a mesh are not.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._watched = [weakref.ref(p) for p in parameters if _is_whole(p)]

    @torch.no_grad()
    def checksum(self) -> str:
        """The sum of all values and of their squares, as far as two ranks agree on them."""
        total, squares = 0.0, 0.0
        sums = []
        for parameter in (reference() for reference in self._watched):
            # FSDP frees what it gathered.
            if parameter is None or parameter.untyped_storage().size() == 0:
                continue
            values = torch.view_as_real(parameter) if parameter.is_complex() else parameter
            dtype = widest_dtype(values.device)
            norm = torch.linalg.vector_norm(values, dtype=dtype)
            sums.append(torch.stack([values.sum(dtype=dtype), norm.square()]).cpu())
        if sums:
            total, squares = torch.stack(sums).double().sum(dim=0).tolist()
        return f"sum {total:.{_DIGITS}g}, squares {squares:.{_DIGITS}g}"


def _is_whole(parameter: Tensor) -> bool:
    return not is_sharded(parameter) and not getattr(parameter, "_fsdp_flattened", False)
