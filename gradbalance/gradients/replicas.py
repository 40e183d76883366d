"""Check whether the ranks still have the same parameters, by two sums over them."""

import math
import weakref
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from gradbalance.gradients.parameters import is_sharded
from gradbalance.gradients.ranks import widest_dtype
from gradbalance.gradients.torch_private import is_flattened

# Different hardware rounds differently, both in training and in these sums.
_TOLERANCE = 1e-7
_SUMMED = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_CHUNK = 1 << 22  # The number of entries that are cast to the widest dtype at once.


class Replicas:
    """Weak references to parameters of this rank that must equal those of the other ranks.

    Args:
        leaves: the leaves to watch. Ignored are inputs, parts of a parameter on a device mesh, and
            tensors that cannot be summed.
    """

    def __init__(self, leaves: Iterable[Tensor]) -> None:
        self._watched = [weakref.ref(leaf) for leaf in leaves if _is_replica(leaf)]

    @torch.no_grad()
    def sums(self) -> tuple[float, float]:
        """The sum of all P values, divided by √P, and the square root of their sum of squares."""
        sums, num_values = [], 0
        for parameter in (reference() for reference in self._watched):
            # FSDP frees the parameters that it gathered.
            if parameter is None or parameter.untyped_storage().size() == 0:
                continue
            values = torch.view_as_real(parameter) if parameter.is_complex() else parameter
            num_values += values.numel()
            for part in torch.split(values.reshape(-1), _CHUNK):
                wide = part.to(widest_dtype(part.device))
                sums.append(torch.stack([wide.sum(), wide.square().sum()]))
        if not sums:
            return 0.0, 0.0
        on_one_device = [pair.to(sums[0].device) for pair in sums]
        total, squares = torch.stack(on_one_device).sum(dim=0).tolist()
        return total / math.sqrt(num_values), math.sqrt(squares)


def alike(of_ranks: Sequence[tuple[float, ...]]) -> bool:
    """Whether the sums of all ranks are equal up to rounding.

    Args:
        of_ranks: the two sums of each rank.
    """
    totals, norms = ([pair[index] for pair in of_ranks] for index in (0, 1))
    margin = _TOLERANCE * max(norms)
    # Negated so that NaN on all ranks counts as equal.
    return not any(max(values) - min(values) > margin for values in (totals, norms))


def _is_replica(leaf: Tensor) -> bool:
    # The exact type, because sums of quantised or wrapped tensors may mean something else.
    return (
        type(leaf) is nn.Parameter
        and leaf.layout is torch.strided
        and leaf.device.type != "meta"
        and (leaf.is_complex() or leaf.dtype in _SUMMED)
        and not is_sharded(leaf)
        and not is_flattened(leaf)
    )
