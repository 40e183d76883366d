"""How the losses of a run are balanced: methods by name, and what stands for ``sum(losses)``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from torch import Tensor

import gradbalance as gb
from examples.common.choices import check_one_of
from examples.common.solvers import build_solver
from examples.pinn.annealing import Annealing
from examples.pinn.network import Network
from examples.pinn.problems import Problem

Scale = Literal["none", "sum", "norm"]

ANNEALING = "annealing"


class Balancing(Protocol):
    """What training needs of a ``gb.Balancer``."""

    def backward(self, losses: Mapping[str, Tensor]) -> gb.Report:
        """Take the balanced step."""


@dataclass(frozen=True)
class Method:
    """How losses are balanced.

    Attributes:
        solver: A gradbalance solver, as the call that builds it; or "annealing", the loop of
            `Annealing`.
        scale: ``Balancer(scale=...)``; "none" leaves the weights as the solver defines them.
        factor: Of the conditions' losses in a plain sum: weights by hand.
    """

    solver: str
    scale: Scale = "none"
    factor: float = 1.0

    def __post_init__(self) -> None:
        check_one_of("scale", self.scale, get_args(Scale))
        if self.solver != ANNEALING:
            build_solver(self.solver)
        if self.factor != 1 and self.solver != "Uniform":
            raise ValueError(f"weights by hand are of a plain sum, got {self.solver!r}")

    def build(self, problem: Problem, network: Network) -> Balancing:
        """Return what stands for ``sum(losses)``.

        Args:
            problem: Whose losses are balanced.
            network: Whose gradients are balanced.
        """
        if self.solver == ANNEALING:
            return Annealing(network, problem.conditions)
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
    # On gradients: all at the length of the plain sum, so that none wins by a longer step.
    "upgrad": Method("UPGrad", "norm"),
    "upgrad-averaged": Method("CRMOGM(solver=UPGrad)", "norm"),
    "dualproj": Method("DualProj", "norm"),
    "pcgrad": Method("PCGrad", "norm"),
    "gradvac": Method("GradVac", "norm"),
    "cagrad": Method("CAGrad", "norm"),
    "mgda": Method("MGDA", "norm"),
    "mgda-l2": Method("MGDA(normalization='l2')", "norm"),
    "mgda-loss": Method("MGDA(normalization='loss')", "norm"),
    "mgda-loss+": Method("MGDA(normalization='loss+')", "norm"),
    "nash-mtl": Method("NashMTL", "norm"),
    "fairgrad-2": Method("FairGrad(alpha=2.0)", "norm"),
    "config": Method("ConFIG", "norm"),
    "imtl-g": Method("IMTLG", "norm"),
    "aligned-mtl": Method("AlignedMTL", "norm"),
    "gradnorm": Method("GradNorm(alpha=1.0)", "norm"),
    "db-mtl": Method("DBMTL", "norm"),
    # Two as their papers have them, whose lengths differ from the plain sum's.
    "upgrad-raw": Method("UPGrad"),
    "db-mtl-raw": Method("DBMTL"),
    # On losses: their weights as they are.
    "uw": Method("UW"),
    "imtl-l": Method("IMTLL"),
    "gls": Method("GLS"),
    "si": Method("SI"),
    "stch": Method("STCH"),
    "dwa": Method("DWA"),
    "rlw": Method("RLW"),
    "famo": Method("FAMO"),
    "softadapt": Method("SoftAdapt"),
    "softadapt-norm": Method("SoftAdapt(normalized=True)"),
    "softadapt-loss": Method("SoftAdapt(loss_weighted=True)"),
    "relobralo": Method("ReLoBRaLo"),
    "annealing": Method(ANNEALING),
}
