"""All methods of the study: the example's methods, many more solvers, and annealing."""

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
    """The method `Annealing`, which is not a solver."""

    solver: str = ANNEALING

    def __post_init__(self) -> None:
        """Check nothing, since there is no solver."""

    def build(self, problem: Problem, network: Network) -> Balancing:
        """Return an `Annealing`, in place of the balancer that `Method.build` returns.

        Args:
            problem: The problem whose conditions get weights.
            network: The network whose gradients are measured.
        """
        return Annealing(network, problem.conditions)


@dataclass(frozen=True, kw_only=True)
class StudyConfig(RunConfig):
    """A run of the example, or of annealing."""

    @property
    def method(self) -> Method:
        """How the losses are balanced."""
        return AnnealingMethod() if self.solver == ANNEALING else super().method


METHODS: dict[str, Method] = {
    **methods.METHODS,
    # On gradients: all get the length of the plain sum, so that none wins by longer steps.
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
    # Two as in their papers, with lengths that differ from the plain sum's.
    "upgrad-raw": Method("UPGrad"),
    "db-mtl-raw": Method("DBMTL"),
    # On losses: with their weights unchanged.
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
