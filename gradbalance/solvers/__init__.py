"""The solvers, one per file: they turn losses and a Gramian into weights."""

from gradbalance.solvers.aligned_mtl import AlignedMTL
from gradbalance.solvers.cagrad import CAGrad
from gradbalance.solvers.config import ConFIG
from gradbalance.solvers.db_mtl import DBMTL
from gradbalance.solvers.dbgd import DBGD
from gradbalance.solvers.dualproj import DualProj
from gradbalance.solvers.dwa import DWA
from gradbalance.solvers.epo import EPO
from gradbalance.solvers.fairgrad import FairGrad
from gradbalance.solvers.famo import FAMO
from gradbalance.solvers.gls import GLS
from gradbalance.solvers.grad_cosine import GradCosine
from gradbalance.solvers.gradnorm import GradNorm
from gradbalance.solvers.gradvac import GradVac
from gradbalance.solvers.hooks import AfterStep, EndEpoch, listeners
from gradbalance.solvers.imtl_g import IMTLG
from gradbalance.solvers.imtl_l import IMTLL
from gradbalance.solvers.inverse_norm import InverseNorm
from gradbalance.solvers.krum import Krum
from gradbalance.solvers.main_task import MainTask
from gradbalance.solvers.mgda import MGDA
from gradbalance.solvers.modo import MoDo
from gradbalance.solvers.nash_mtl import NashMTL
from gradbalance.solvers.pcd import PCD
from gradbalance.solvers.pcgrad import PCGrad
from gradbalance.solvers.relobralo import ReLoBRaLo
from gradbalance.solvers.rlw import RLW
from gradbalance.solvers.sdmgrad import SDMGrad
from gradbalance.solvers.si import SI
from gradbalance.solvers.soft_adapt import SoftAdapt
from gradbalance.solvers.solver import Problem, Solution, Solver, StatelessSolver
from gradbalance.solvers.stch import STCH
from gradbalance.solvers.uniform import Uniform
from gradbalance.solvers.upgrad import UPGrad
from gradbalance.solvers.uw import UW
from gradbalance.solvers.wrappers.averaged_gramian import AveragedGramian
from gradbalance.solvers.wrappers.bounded import Bounded
from gradbalance.solvers.wrappers.crmogm import CRMOGM
from gradbalance.solvers.wrappers.scaled import Scaled
from gradbalance.solvers.wrappers.shifted import Shifted

__all__ = [
    "CRMOGM",
    "DBGD",
    "DBMTL",
    "DWA",
    "EPO",
    "FAMO",
    "GLS",
    "IMTLG",
    "IMTLL",
    "MGDA",
    "PCD",
    "RLW",
    "SI",
    "STCH",
    "UW",
    "AfterStep",
    "AlignedMTL",
    "AveragedGramian",
    "Bounded",
    "CAGrad",
    "ConFIG",
    "DualProj",
    "EndEpoch",
    "FairGrad",
    "GradCosine",
    "GradNorm",
    "GradVac",
    "InverseNorm",
    "Krum",
    "MainTask",
    "MoDo",
    "NashMTL",
    "PCGrad",
    "Problem",
    "ReLoBRaLo",
    "SDMGrad",
    "Scaled",
    "Shifted",
    "SoftAdapt",
    "Solution",
    "Solver",
    "StatelessSolver",
    "UPGrad",
    "Uniform",
    "listeners",
]
