"""The options of a `Balancer`, checked once and then frozen."""

from dataclasses import dataclass
from typing import Literal, get_args

from torch.distributed import ProcessGroup

from gradbalance.gradients import Heads, Source
from gradbalance.solvers import Solver

Scale = Literal["sum", "norm"]
ZeroGradients = Literal["absent", "strict"]
NonFinite = Literal["raise", "skip"]
RanksHold = Literal["same", "apart"]


@dataclass(frozen=True)
class Policy:
    """The options that determine how steps are taken; see `Balancer` for each.

    Attributes:
        measures_gramian: whether the source measures the Gramian at steps that are solved.
    """

    heads: Heads
    scale: Scale | None
    zero_gradients: ZeroGradients
    nonfinite: NonFinite
    every: int
    distributed: bool | ProcessGroup
    replicas: RanksHold
    measures_gramian: bool


def checked_policy(
    solver: Solver,
    source: Source,
    *,
    heads: Heads | None,
    scale: Scale | None,
    zero_gradients: ZeroGradients,
    nonfinite: NonFinite,
    every: int,
    distributed: bool | ProcessGroup,
    replicas: RanksHold = "same",
) -> Policy:
    """Check the options, and fill in their defaults.

    Raises:
        ValueError: an option is invalid, or does not fit the solver and the source.
    """
    name = type(source).__name__
    if solver.needs == "gramian" and not source.measures_gramian:
        raise ValueError(
            f"{solver.name} needs the gradients' Gramian, which {name} does not measure; "
            "use SharedParameters() or Representation(model.trunk)"
        )
    if scale == "norm" and not source.measures_gramian:
        raise ValueError(
            f'scale="norm" needs the gradients\' Gramian, which {name} does not measure; use '
            'scale="sum" or SharedParameters()'
        )
    for argument, found, choices in (
        ("heads", heads, (None, *get_args(Heads))),
        ("scale", scale, (None, *get_args(Scale))),
        ("zero_gradients", zero_gradients, get_args(ZeroGradients)),
        ("nonfinite", nonfinite, get_args(NonFinite)),
        ("replicas", replicas, get_args(RanksHold)),
    ):
        if found not in choices:
            raise ValueError(f"{argument} must be one of {list(choices)}; found {found!r}")
    if heads == "raw" and not source.measures_gramian:
        raise ValueError(
            f'heads="raw" needs to know what the tasks share, and {name} does one backward of the '
            'weighted sum; use SharedParameters() or heads="weighted"'
        )
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ValueError(f"every must be a whole number of steps, at least 1; found {every!r}")
    if not isinstance(distributed, bool | ProcessGroup):
        raise ValueError(
            f"distributed must be True, False or a process group; found {distributed!r}"
        )
    chosen: Heads = heads or ("raw" if solver.weighs == "gradients" else "weighted")
    if chosen == "weighted" and source.groups:
        raise ValueError(
            "a task has one weight a group, so its head has none; found groups "
            f'{list(source.groups)} and heads="weighted". Use heads="raw"'
        )
    return Policy(
        heads=chosen,
        scale=scale,
        zero_gradients=zero_gradients,
        nonfinite=nonfinite,
        every=every,
        distributed=distributed,
        replicas=replicas,
        measures_gramian=source.measures_gramian,
    )
