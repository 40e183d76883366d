"""Store a state as one tensor of bytes, which checkpoints, averages and safetensors can hold."""

import json
import zlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_VERSION = 2
_MAGIC = b"gradbal" + bytes([_VERSION])
_HEADER = 16  # magic and version, length, checksum
_UNKNOWN_TASKS = 1 << 16


def capacity_for(tasks: Sequence[str] | None, num_groups: int) -> int:
    """The number of bytes reserved for a state; training does not change it.

    Args:
        tasks: the names of the tasks, if they were given at construction.
        num_groups: the number of groups of parameters that have a solver of their own.
    """
    if tasks is None:
        return _UNKNOWN_TASKS
    names = sum(len(json.dumps(task)) for task in tasks)
    # Some states have a number for each pair of task names; nested solvers have it twice.
    per_group = 4096 + 1024 * len(tasks) + (16 + 2 * len(tasks)) * names + 64 * len(tasks) ** 2
    return -(-(16384 + max(1, num_groups) * per_group) // 1024) * 1024


def encode(state: dict[str, Any], capacity: int) -> Tensor:
    """Encode a state of plain Python values as a new uint8 tensor [capacity], padded with zeros.

    Raises:
        ValueError: the state does not fit.
    """
    payload = json.dumps(state, allow_nan=False, separators=(",", ":")).encode()
    if _HEADER + len(payload) > capacity:
        raise ValueError(
            f"the Balancer's state takes {len(payload)} bytes, which is more than the "
            f"{capacity - _HEADER} that were set aside. Name the tasks when it is built, "
            "Balancer(..., tasks=[...]), so that their number is known"
        )
    header = _MAGIC + len(payload).to_bytes(4, "little") + zlib.crc32(payload).to_bytes(4, "little")
    padded = bytearray(header + payload).ljust(capacity, b"\0")
    return torch.frombuffer(padded, dtype=torch.uint8).clone()


def decode(found: object) -> dict[str, Any]:
    """Decode a tensor that `encode` returned; its dtype may have been changed to any real one.

    Raises:
        ValueError: the tensor is not such a state, or its values were changed.
    """
    if not isinstance(found, Tensor) or found.is_complex() or found.numel() < _HEADER:
        raise ValueError(f"the state of a Balancer is a tensor of bytes; found {found!r}")
    content = found.detach().cpu().reshape(-1).to(torch.float64)
    if not bool(((content >= 0) & (content <= 255) & (content == content.round())).all()):
        raise ValueError(f"its bytes are no longer whole numbers: {_CHANGED}")
    data = bytes(content.to(torch.uint8).tolist())
    if data[:7] != _MAGIC[:7]:
        raise ValueError(f"the state of a Balancer begins with its name: {_CHANGED}")
    if data[7] != _VERSION:
        raise ValueError(
            f"the state is of version {data[7]}, but this Balancer reads version {_VERSION}"
        )
    length = int.from_bytes(data[8:12], "little")
    payload = data[_HEADER : _HEADER + length]
    if zlib.crc32(payload) != int.from_bytes(data[12:16], "little"):
        raise ValueError(f"its checksum fails: {_CHANGED}")
    state: dict[str, Any] = json.loads(payload)
    return state


_CHANGED = (
    "the state of this Balancer was changed after it was saved, by an average of different states "
    "for instance. Drop the key that ends in '_extra_state' before loading, to begin with a fresh "
    "one"
)
