"""Tensors that lie over a mesh of ranks: how often each part is there, and one sum over all."""

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor

from gradbalance.gradients.parameters import is_sharded
from gradbalance.gradients.ranks import Ranks


class Mesh:
    """The ranks over which some tensors lie: those of the largest of their meshes.

    Args:
        tensors: at least one of them a DTensor; plain ones are taken to be the same on all ranks.

    Raises:
        ValueError: the mesh of one has ranks that the largest has not.
    """

    def __init__(self, tensors: Sequence[Any]) -> None:
        meshes = list({t.device_mesh: None for t in tensors if is_sharded(t)})
        self._mesh = max(meshes, key=lambda mesh: int(mesh.size()))
        ranks = set(self._mesh.mesh.flatten().tolist())
        outside = [m for m in meshes if not ranks.issuperset(m.mesh.flatten().tolist())]
        if outside:
            raise ValueError(
                "the meshes of what the tasks share must lie in the largest of them; found "
                f"{self._mesh} and {outside[0]}"
            )

    def copies(self, tensor: Any) -> int:
        """On how many ranks each part of a tensor lies."""
        size = int(self._mesh.size())
        if not is_sharded(tensor):
            return size
        mesh = tensor.device_mesh
        kinds = enumerate(tensor.placements)
        replicas = prod(mesh.size(dim) for dim, kind in kinds if kind.is_replicate())
        return int(replicas * size // mesh.size())

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, the same on each of them."""
        for dim in range(self._mesh.ndim):
            tensor = Ranks(self._mesh.get_group(dim)).add_up(tensor)
        return tensor


def local_part(tensor: Any) -> Tensor:
    """What this rank has of a tensor: its part of a DTensor, or all of it."""
    local: Tensor = tensor.to_local() if is_sharded(tensor) else tensor
    return local


def local_gradient(parameter: Any) -> Tensor | None:
    """What this rank has of `.grad`, placed as the parameter is.

    A gradient can be placed otherwise: as parts that still are to be summed, say.
    """
    gradient = parameter.grad
    if gradient is None or not is_sharded(gradient):
        return gradient  # type: ignore[no-any-return]
    return local_part(gradient.redistribute(parameter.device_mesh, parameter.placements))


def placed_like(parameter: Any, local: Tensor | None) -> Tensor | None:
    """A tensor of which this rank has this part, placed as a parameter is."""
    if local is None or not is_sharded(parameter):
        return local
    placed: Tensor = type(parameter).from_local(
        local,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
    return placed
