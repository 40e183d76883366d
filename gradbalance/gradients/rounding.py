"""What rounding does to gradients, told from the dtypes that they pass in the graph."""

import ctypes
import functools
import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from gradbalance.gradients.graph import Graph
from gradbalance.gradients.torch_private import outputs_of


@functools.cache
def unit_of(dtype: torch.dtype) -> float:
    """The unit roundoff ε of a dtype."""
    return torch.finfo(dtype).eps


@functools.cache
def rounding_in(dtype: torch.dtype) -> float:
    """What rounding does to a gradient that passes this dtype, relative to its length: δ.

    Measured on small networks: up to 3.8 units of float32, whose sums are rounded at every step,
    and up to 0.3 of a dtype of two bytes, whose sums are taken in float32 and rounded once.
    """
    unit = unit_of(dtype)
    return unit if dtype.itemsize <= 2 else 4 * unit


def rounding_of(
    losses: Mapping[str, Tensor], graph: Graph, tensors: Iterable[Tensor] = ()
) -> float:
    """The largest δ on the way from the losses to the leaves, or to other tensors.

    A dtype changes where a tensor is cast; inside a node of a custom or compiled function only the
    dtypes of what it returns can be seen.
    """
    dtypes = {
        tensor.dtype for some in (losses.values(), graph.reached_by, tensors) for tensor in some
    }
    for node in (*graph.casts, *graph.custom):
        dtypes |= {entry.dtype for entry in outputs_of(node) or ()}
    real = {dtype.to_real() for dtype in dtypes if dtype.is_floating_point or dtype.is_complex}
    return max(map(rounding_in, real))


def held(weight: float, factor: float, loss: Tensor, task: str) -> float:
    """A weight as it acts where it passes, times a factor, through a loss of some dtype.

    Raises:
        ValueError: it is too large for the dtype, and that is not the factor's doing.
    """
    product = weight * factor
    if loss.dtype is torch.float32:  # as most are, and the way below takes ten times as long
        passed = ctypes.c_float(product).value
    else:
        passed = float(torch.tensor(product, dtype=torch.float64).to(loss.dtype))
    if math.isinf(passed) and abs(factor) <= 1:
        raise ValueError(
            f"the weight {weight:.3g} of task {task!r} is more than its loss, in {loss.dtype}, can "
            "carry. Pass the loss in a wider dtype, loss.double() if need be, or choose a source "
            "that combines gradients, SharedParameters()"
        )
    return passed / factor
