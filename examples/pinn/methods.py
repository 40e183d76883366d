"""How the losses of a run are balanced: methods by name, and what stands for ``sum(losses)``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from torch import Tensor

import gradbalance as gb
from examples.common.choices import check_one_of
from examples.common.solvers import build_solver
from examples.pinn.network import Network
from examples.pinn.problems import Problem

Scale = Literal["none", "sum", "norm"]


class Balancing(Protocol):
    """What training needs of a ``gb.Balancer``."""

    def backward(self, losses: Mapping[str, Tensor]) -> gb.Report:
        """Take the balanced step."""


@dataclass(frozen=True)
class Method:
    """How losses are balanced.

    Attributes:
        solver: A gradbalance solver, as the call that builds it.
        scale: ``Balancer(scale=...)``; "none" leaves the weights as the solver defines them.
        factor: Of the conditions' losses in a plain sum: weights by hand.
    """

    solver: str
    scale: Scale = "none"
    factor: float = 1.0

    def __post_init__(self) -> None:
        check_one_of("scale", self.scale, get_args(Scale))
        build_solver(self.solver)
        if self.factor != 1 and self.solver != "Uniform":
            raise ValueError(f"weights by hand are of a plain sum, got {self.solver!r}")

    def build(self, problem: Problem, network: Network) -> Balancing:
        """Return what stands for ``sum(losses)``.

        Args:
            problem: Whose losses are balanced.
            network: Whose gradients are balanced.
        """
        scale = None if self.scale == "none" else self.scale
        solver = build_solver(self.solver)
        if self.factor != 1:
            factors = dict.fromkeys(problem.conditions, self.factor)
            solver = gb.Uniform(preferences=dict.fromkeys(problem.equations, 1.0) | factors)
        if solver.needs == "losses" and scale != "norm":
            return gb.Balancer(solver, scale=scale)
        return gb.Balancer(solver, gb.SharedParameters(network), scale=scale)


METHODS: dict[str, Method] = {
    "sum": Method("Uniform"),
    "x10": Method("Uniform", factor=10.0),
    "x100": Method("Uniform", factor=100.0),
    "x1000": Method("Uniform", factor=1000.0),
    # At the length of the plain sum, so that it does not win by a longer step.
    "upgrad": Method("UPGrad", "norm"),
}


def choose(
    methods: Mapping[str, Method], names: str, solver: str | None, scale: str
) -> dict[str, Method]:
    """Return what a command is asked for, by name.

    Args:
        methods: Those that have a name.
        names: Some of them with commas between, or "all".
        solver: Any solver, which then stands beside the plain sum alone.
        scale: Of that solver's weights.

    Raises:
        ValueError: There is no such method, or it is named twice.
    """
    chosen = list(methods) if names == "all" else [name.strip() for name in names.split(",")]
    for name in chosen:
        check_one_of("solvers", name, methods)
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"each method can be given once, got {names}")
    if solver is not None:
        return {"sum": methods["sum"], solver: Method(solver, scale)}  # type: ignore[arg-type]
    return {name: methods[name] for name in chosen}
