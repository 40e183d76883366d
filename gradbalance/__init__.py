"""Multi-task gradient balancing for PyTorch: any solver on any source of gradients."""

from gradbalance.balancer import Balancer
from gradbalance.gradients import (
    LossesOnly,
    Representation,
    SharedParameters,
    Source,
    TaskGradients,
)
from gradbalance.history import History
from gradbalance.numerics import Status
from gradbalance.report import Report
from gradbalance.solvers import (
    CRMOGM,
    IMTLG,
    MGDA,
    AfterStep,
    AlignedMTL,
    ConFIG,
    EndEpoch,
    GradNorm,
    PCGrad,
    Problem,
    Solution,
    Solver,
    StatelessSolver,
    Uniform,
)

__all__ = [
    "CRMOGM",
    "IMTLG",
    "MGDA",
    "AfterStep",
    "AlignedMTL",
    "Balancer",
    "ConFIG",
    "EndEpoch",
    "GradNorm",
    "History",
    "LossesOnly",
    "PCGrad",
    "Problem",
    "Report",
    "Representation",
    "SharedParameters",
    "Solution",
    "Solver",
    "Source",
    "StatelessSolver",
    "Status",
    "TaskGradients",
    "Uniform",
]
