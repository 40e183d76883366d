"""How the losses of a run are balanced: methods by name, and what replaces ``sum(losses)``."""

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
    """The part of ``gb.Balancer`` that training needs."""

    def backward(self, losses: Mapping[str, Tensor]) -> gb.Report:
        """Run the balanced backward pass."""


@dataclass(frozen=True)
class Method:
    """How losses are balanced.

    Attributes:
        solver: A gradbalance solver, as a call in Python.
        scale: ``Balancer(scale=...)``; "none" leaves the weights as the solver defines them.
        factor: A hand-set weight for the losses of the conditions, in a plain sum.
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
        """Return the balancer that replaces ``sum(losses)``.

        Args:
            problem: The problem whose losses are balanced.
            network: The network whose gradients are balanced.
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
    # The direction gets the length of the plain sum, so that UPGrad does not win by longer steps.
    "upgrad": Method("UPGrad", "norm"),
}


def choose(
    methods: Mapping[str, Method], names: str, solver: str | None, scale: str
) -> dict[str, Method]:
    """Return the methods that the options of a command ask for, by name.

    Args:
        methods: All methods that have a name.
        names: Some of these names, separated by commas, or "all".
        solver: Any solver. If it is given, it is compared with the plain sum only.
        scale: The scale of this solver's weights.

    Raises:
        ValueError: A method does not exist, or is named twice.
    """
    chosen = list(methods) if names == "all" else [name.strip() for name in names.split(",")]
    for name in chosen:
        check_one_of("solvers", name, methods)
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"each method can be given once, got {names}")
    if solver is not None:
        return {"sum": methods["sum"], solver: Method(solver, scale)}  # type: ignore[arg-type]
    return {name: methods[name] for name in chosen}
