"""The methods, one a file: (losses, Gramian) to weights."""

from gradbalance.solvers.crmogm import CRMOGM
from gradbalance.solvers.gradnorm import GradNorm
from gradbalance.solvers.hooks import AfterStep, EndEpoch
from gradbalance.solvers.mgda import MGDA
from gradbalance.solvers.pcgrad import PCGrad
from gradbalance.solvers.solver import Problem, Solution, Solver, StatelessSolver
from gradbalance.solvers.uniform import Uniform

__all__ = [
    "CRMOGM",
    "MGDA",
    "AfterStep",
    "EndEpoch",
    "GradNorm",
    "PCGrad",
    "Problem",
    "Solution",
    "Solver",
    "StatelessSolver",
    "Uniform",
]
