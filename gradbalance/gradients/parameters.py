"""What users name as shared or measured: modules and parameters, checked."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from gradbalance.gradients.sharded_rows import sharded_among

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
    return given


def check_sharded(
    given: Mapping[str, tuple[nn.Module | Tensor, ...]], options: Mapping[str, object]
) -> None:
    """ValueError unless all parameters are named, in one group, and sharded."""
    refused = [option for option, value in options.items() if value is not None]
    if list(given) != [""] or refused:
        raise ValueError(
            "sharded= is for one group of parameters that are named, without measure= or sketch=; "
            f"found {refused or list(given) or 'no parameters'}"
        )
    parameters = parameters_of(given[""])
    if len(sharded_among(parameters)) < len(parameters):
        raise ValueError(
            "with sharded= the parameters must be sharded by torch.distributed.fsdp.fully_shard; "
            "found others. Build the source after sharding"
        )


def subset(given: tuple[nn.Module | Tensor, ...], shared: list[Tensor]) -> list[Tensor]:
    """The parameters that are given and shared; ValueError if there are others, or none."""
    measured = [p for p in parameters_of(given) if p.requires_grad]
    known = {id(p) for p in shared}
    outside = [tuple(p.shape) for p in measured if id(p) not in known]
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
    if not groups or "" in groups:
        raise ValueError(f"groups must have names, at least one; found {list(groups)}")
    for option, value in options.items():
        if value is not None:
            raise ValueError(f"{option}= is for one group of parameters; found a mapping of groups")
    seen: dict[int, str] = {}
    for group, given in groups.items():
        for parameter in parameters_of(given):
            if id(parameter) in seen:
                raise ValueError(
                    f"groups must not overlap; found a parameter of shape "
                    f"{tuple(parameter.shape)} in {seen[id(parameter)]!r} and {group!r}"
                )
            seen[id(parameter)] = group


def parameters_of(given: tuple[nn.Module | Tensor, ...]) -> list[Tensor]:
    """The parameters of modules and those given as they are, each once."""
    unique: dict[int, Tensor] = {}
    for item in given:
        for parameter in item.parameters() if isinstance(item, nn.Module) else (item,):
            unique[id(parameter)] = parameter
    return list(unique.values())
