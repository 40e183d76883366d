"""What users name as shared or measured: modules and parameters, checked."""

import sys
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from gradbalance.gradients.torch_private import is_flattened

Parameters = nn.Module | Tensor | Iterable[nn.Module | Tensor]


def as_tuple(parameters: Parameters, argument: str) -> tuple[nn.Module | Tensor, ...]:
    """What was given, as a tuple; ValueError if it is no parameter or module."""
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
    """The parameters that are given and shared; ValueError if there are others, or none."""
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
    """ValueError unless it is a whole number, and not too small."""
    if not isinstance(found, int) or found < least:
        raise ValueError(f"{argument} must be a whole number, at least {least}; found {found!r}")


def check_groups(
    groups: Mapping[str, tuple[nn.Module | Tensor, ...]], options: Mapping[str, object]
) -> None:
    """ValueError unless groups have names and do not overlap, and no option forbids them."""
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
    """The parameters of modules and those given as they are, each once."""
    return list(
        {
            parameter: None
            for item in given
            for parameter in (item.parameters() if isinstance(item, nn.Module) else (item,))
        }
    )


def names_of(given: tuple[nn.Module | Tensor, ...]) -> str:
    """What was given, in a few words."""
    return " + ".join(f"{type(item).__name__}{_shape_of(item)}" for item in given[:4]) + (
        " + …" if len(given) > 4 else ""
    )


def _shape_of(item: nn.Module | Tensor) -> str:
    return str(tuple(item.shape)) if isinstance(item, Tensor) else ""


def fingerprint(parameter: Tensor) -> list[Any]:
    """A few of its values, which tell it from others of its shape on other ranks.

    A parameter has no name in a graph; where training starts, its values are the same on all ranks.
    """
    values: list[Any] = parameter.detach().reshape(-1)[:4].tolist()
    return values


def check_not_flat(parameters: Iterable[Tensor]) -> None:
    """ValueError if FSDP1 flattened one of them together with others."""
    if any(map(is_flattened, parameters)):
        raise ValueError(
            "found parameters of FullyShardedDataParallel (FSDP1), which flattens several into "
            "one, so that what the tasks share cannot be told from their heads. Shard with "
            "torch.distributed.fsdp.fully_shard (FSDP2) instead, and take "
            "ShardedParameters(model.trunk, model), or LossesOnly()"
        )


def check_whole(parameters: Collection[Tensor]) -> None:
    """ValueError unless each of them lies on this rank as it is."""
    check_not_flat(parameters)
    if "torch.distributed.tensor" in sys.modules and any(map(is_sharded, parameters)):
        raise ValueError(
            "the parameters lie over a mesh of ranks (FSDP2 or tensor parallelism); use "
            "ShardedParameters(model.trunk, model) instead"
        )


def is_sharded(parameter: Tensor) -> bool:
    """Whether a tensor lies over a mesh of ranks, by FSDP2 or tensor parallelism: a DTensor."""
    module: Any = sys.modules.get("torch.distributed.tensor")
    # Importing it takes as long as torch itself; where it was never imported there are none.
    return module is not None and isinstance(parameter, module.DTensor)
