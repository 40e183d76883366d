"""The methods, one a file: (losses, Gramian) to weights."""

from gradbalance.solvers.aligned_mtl import AlignedMTL
from gradbalance.solvers.config import ConFIG
from gradbalance.solvers.crmogm import CRMOGM
from gradbalance.solvers.gradnorm import GradNorm
from gradbalance.solvers.hooks import AfterStep, EndEpoch
from gradbalance.solvers.imtl_g import IMTLG
from gradbalance.solvers.mgda import MGDA
from gradbalance.solvers.pcgrad import PCGrad
from gradbalance.solvers.solver import Problem, Solution, Solver, StatelessSolver
from gradbalance.solvers.uniform import Uniform

__all__ = [
    "CRMOGM",
    "IMTLG",
    "MGDA",
    "AfterStep",
    "AlignedMTL",
    "ConFIG",
    "EndEpoch",
    "GradNorm",
    "PCGrad",
    "Problem",
    "Solution",
    "Solver",
    "StatelessSolver",
    "Uniform",
]
