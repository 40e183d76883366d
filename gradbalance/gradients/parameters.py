"""Check the modules and parameters that users name as shared or measured."""

import sys
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from gradbalance.gradients.torch_private import is_flattened

Parameters = nn.Module | Tensor | Iterable[nn.Module | Tensor]


def as_tuple(parameters: Parameters, argument: str) -> tuple[nn.Module | Tensor, ...]:
    """The given modules and parameters as a tuple; ValueError if there is anything else."""
    given = (parameters,) if isinstance(parameters, nn.Module | Tensor) else tuple(parameters)
    wrong = [type(p).__name__ for p in given if not isinstance(p, nn.Module | Tensor)]
    if wrong or not parameters_of(given):
        raise ValueError(
            f"{argument} must be a module or parameters, at least one; found "
            + (f"objects of type {wrong}" if wrong else "no parameter")
        )
    computed = [tuple(p.shape) for p in given if isinstance(p, Tensor) and not p.is_leaf]
    if computed:
        raise ValueError(
            f"{argument} must be leaves, which are trained; found tensors of shapes {computed} "
            "that were computed. For these there is Representation()"
        )
    loose = [p for p in given if isinstance(p, Tensor) and not isinstance(p, nn.Parameter)]
    untrained = [tuple(p.shape) for p in loose if not p.requires_grad]
    if untrained:
        raise ValueError(
            f"{argument} must be parameters, or tensors that require gradients; found tensors of "
            f"shapes {untrained} that do not, as .data and .detach() give. Pass the parameter"
        )
    return given


def subset(given: tuple[nn.Module | Tensor, ...], shared: list[Tensor]) -> list[Tensor]:
    """The given parameters; ValueError if there are none, or some are not shared."""
    measured = [p for p in parameters_of(given) if p.requires_grad]
    known = set(shared)
    outside = [tuple(p.shape) for p in measured if p not in known]
    if outside or not measured:
        raise ValueError(
            "measure must be parameters that the tasks share and that require gradients; found "
            + (f"others, of shapes {outside}" if outside else "none")
        )
    return measured


def check_count(argument: str, found: object, least: int) -> None:
    """Raise a ValueError unless the value is a whole number of at least `least`."""
    if not isinstance(found, int) or found < least:
        raise ValueError(f"{argument} must be a whole number, at least {least}; found {found!r}")


def check_groups(
    groups: Mapping[str, tuple[nn.Module | Tensor, ...]], options: Mapping[str, object]
) -> None:
    """Raise a ValueError unless groups are named, do not overlap, and no option excludes them."""
    if not groups or not all(groups):
        raise ValueError(f"groups must have names, at least one; found {list(groups)}")
    for option, value in options.items():
        if value is not None:
            raise ValueError(f"{option}= is for one group of parameters; found a mapping of groups")
    seen: dict[Tensor, str] = {}
    for group, given in groups.items():
        for parameter in parameters_of(given):
            if parameter in seen:
                raise ValueError(
                    f"groups must not overlap; found a parameter of shape "
                    f"{tuple(parameter.shape)} in {seen[parameter]!r} and {group!r}"
                )
            seen[parameter] = group


def parameters_of(given: tuple[nn.Module | Tensor, ...]) -> list[Tensor]:
    """The parameters of the given modules, and the given parameters, each once."""
    return list(
        {
            parameter: None
            for item in given
            for parameter in (item.parameters() if isinstance(item, nn.Module) else (item,))
        }
    )


def names_of(given: tuple[nn.Module | Tensor, ...]) -> str:
    """A short description of the given modules and parameters."""
    return " + ".join(f"{type(item).__name__}{_shape_of(item)}" for item in given[:4]) + (
        " + …" if len(given) > 4 else ""
    )


def _shape_of(item: nn.Module | Tensor) -> str:
    return str(tuple(item.shape)) if isinstance(item, Tensor) else ""


def fingerprint(parameter: Tensor) -> list[Any]:
    """A few values of a parameter, to recognise it among others of its shape on other ranks.

    Parameters have no names in a graph, but their initial values are the same on all ranks.
    """
    values: list[Any] = parameter.detach().reshape(-1)[:4].tolist()
    return values


def check_not_flat(parameters: Iterable[Tensor]) -> None:
    """Raise a ValueError if FSDP1 flattened one of the parameters together with others."""
    if any(map(is_flattened, parameters)):
        raise ValueError(
            "found parameters of FullyShardedDataParallel (FSDP1), which flattens several into "
            "one, so that what the tasks share cannot be told from their heads. Shard with "
            "torch.distributed.fsdp.fully_shard (FSDP2) instead, and take "
            "ShardedParameters(model.trunk, model), or LossesOnly()"
        )


def check_whole(parameters: Collection[Tensor]) -> None:
    """Raise a ValueError unless this rank holds each of the parameters as a whole."""
    check_not_flat(parameters)
    if "torch.distributed.tensor" in sys.modules and any(map(is_sharded, parameters)):
        raise ValueError(
            "the parameters lie over a mesh of ranks (FSDP2 or tensor parallelism); use "
            "ShardedParameters(model.trunk, model) instead"
        )


def is_sharded(parameter: Tensor) -> bool:
    """Whether a tensor is a DTensor, distributed by FSDP2 or tensor parallelism."""
    module: Any = sys.modules.get("torch.distributed.tensor")
    # Importing this takes as long as torch itself; if it was never imported, there are no DTensors.
    return module is not None and isinstance(parameter, module.DTensor)
