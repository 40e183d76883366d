"""Tensors on a device mesh: the number of copies of each part, and sums over all ranks."""

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor

from gradbalance.gradients.parameters import is_sharded
from gradbalance.gradients.ranks import Ranks


class Mesh:
    """The largest device mesh of some tensors.

    Args:
        tensors: at least one of them a DTensor; plain ones are assumed equal on all ranks.

    Raises:
        ValueError: the mesh of a tensor has ranks that are not in the largest mesh.
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
        """The number of ranks that hold a copy of each part of a tensor."""
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
    """The part of a tensor on this rank: its part of a DTensor, or the whole tensor."""
    local: Tensor = tensor.to_local() if is_sharded(tensor) else tensor
    return local


def local_gradient(parameter: Any) -> Tensor | None:
    """The part of `.grad` on this rank, with the placement of the parameter.

    A gradient can have another placement, such as partial sums that must still be added.
    """
    gradient = parameter.grad
    if gradient is None or not is_sharded(gradient):
        return gradient  # type: ignore[no-any-return]
    return local_part(gradient.redistribute(parameter.device_mesh, parameter.placements))


def placed_like(parameter: Any, local: Tensor | None) -> Tensor | None:
    """The tensor with this part on this rank, and the placement of a parameter."""
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
