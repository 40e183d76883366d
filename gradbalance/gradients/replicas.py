"""Whether the ranks still hold the same parameters, by two sums over them."""

import math
import weakref
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from gradbalance.gradients.parameters import is_sharded
from gradbalance.gradients.ranks import widest_dtype
from gradbalance.gradients.torch_private import is_flattened

# Ranks with other hardware round otherwise, while they train and while they sum.
_TOLERANCE = 1e-7
_SUMMED = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_CHUNK = 1 << 22  # Entries that are widened at once.


class Replicas:
    """Parameters of this rank, held weakly, of which the others have the same.

    Args:
        leaves: those that are watched. Inputs among them are not, nor parts of a parameter that
            lies over a mesh, nor what has no sum.
    """

    def __init__(self, leaves: Iterable[Tensor]) -> None:
        self._watched = [weakref.ref(leaf) for leaf in leaves if _is_replica(leaf)]

    @torch.no_grad()
    def sums(self) -> tuple[float, float]:
        """The sum of all values, divided by √P, and the root of that of their squares."""
        sums, num_values = [], 0
        for parameter in (reference() for reference in self._watched):
            # FSDP frees what it gathered.
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
    """Whether the sums of all ranks are the same, but for rounding.

    Args:
        of_ranks: by rank.
    """
    totals, norms = ([pair[index] for pair in of_ranks] for index in (0, 1))
    margin = _TOLERANCE * max(norms)
    # Not the other way round: what is NaN on all ranks is alike.
    return not any(max(values) - min(values) > margin for values in (totals, norms))


def _is_replica(leaf: Tensor) -> bool:
    # An exact type: what a quantised or a wrapped tensor means by a sum is its own matter.
    return (
        type(leaf) is nn.Parameter
        and leaf.layout is torch.strided
        and leaf.device.type != "meta"
        and (leaf.is_complex() or leaf.dtype in _SUMMED)
        and not is_sharded(leaf)
        and not is_flattened(leaf)
    )
