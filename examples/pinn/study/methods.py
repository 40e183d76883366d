"""All methods of the study: the example's, many solvers, and one that is no solver."""

from dataclasses import dataclass

from examples.pinn import methods
from examples.pinn.config import RunConfig
from examples.pinn.methods import Balancing, Method
from examples.pinn.network import Network
from examples.pinn.problems import Problem
from examples.pinn.study.annealing import Annealing

ANNEALING = "annealing"


@dataclass(frozen=True)
class AnnealingMethod(Method):
    """`Annealing`, in the place of a solver."""

    solver: str = ANNEALING

    def __post_init__(self) -> None:
        """There is no solver to be checked."""

    def build(self, problem: Problem, network: Network) -> Balancing:
        """Return the loop; as `Method.build` does.

        Args:
            problem: Whose conditions are weighed.
            network: Whose gradients are looked at.
        """
        return Annealing(network, problem.conditions)


@dataclass(frozen=True, kw_only=True)
class StudyConfig(RunConfig):
    """A run of the example, or of annealing."""

    @property
    def method(self) -> Method:
        """How its losses are balanced."""
        return AnnealingMethod() if self.solver == ANNEALING else super().method


METHODS: dict[str, Method] = {
    **methods.METHODS,
    # On gradients: all at the length of the plain sum, so that none wins by a longer step.
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
    "annealing": AnnealingMethod(),
}
