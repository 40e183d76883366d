"""One row a solver: what it claims. A new solver adds its row here."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gradbalance as gb

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What a solver claims: the arguments of `check_solver`, and weights in closed form.

    Attributes:
        single: the weight of a single task with the Gramian 4 and the loss 2.
        pair: the weights of two tasks in closed form from their Gramian [2, 2], where there is one.
    """

    make: Callable[[], gb.Solver]
    descends: float = 0
    certified: bool = False
    equivariant: float = 0
    scale_exponent: float = 0.0
    rests: bool = False
    ignores_duplicates: bool = False
    single: float = 1.0
    pair: Callable[[Array], Array] | None = None

    @property
    def claims(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("single", "pair")}


ALL = math.inf


def shortest_pair(gram: Array) -> Array:
    """The weights of the shortest vector between two gradients."""
    first = (gram[1, 1] - gram[0, 1]) / (gram[0, 0] + gram[1, 1] - 2 * gram[0, 1])
    return np.array([np.clip(first, 0, 1), 1 - np.clip(first, 0, 1)])


def projected_pair(gram: Array) -> Array:
    """PCGrad's weights: each gradient projected off the other where they conflict."""
    inner = min(gram[0, 1], 0.0)
    return np.array([1 - inner / gram[0, 0], 1 - inner / gram[1, 1]])


def aligned_pair(gram: Array) -> Array:
    """Aligned-MTL's weights √λ_min G^(−½) p from the closed form of the root of a 2×2 matrix."""
    trace, area = np.trace(gram), np.sqrt(np.linalg.det(gram))
    root = (gram + area * np.eye(2)) / np.sqrt(trace + 2 * area)
    smallest = 2 * area**2 / (trace + np.sqrt(trace**2 - 4 * area**2))
    return np.sqrt(smallest) * np.linalg.solve(root, [0.5, 0.5])


def bisecting_pair(gram: Array) -> Array:
    """Weights of sum 1 that make both gradients equally long."""
    norms = np.sqrt(np.diagonal(gram))
    return norms[::-1] / norms.sum()


def bargaining_pair(gram: Array) -> Array:
    """Nash-MTL's weights: both terms w_i g_i equally long, and ‖d‖² = 2."""
    norms = np.sqrt(np.diagonal(gram))
    return 1 / (norms * np.sqrt(1 + gram[0, 1] / norms.prod()))


def unconflicting_pair(gram: Array) -> Array:
    """UPGrad's weights: of two gradients, the mean of PCGrad's."""
    return projected_pair(gram) / 2


def dual_pair(gram: Array) -> Array:
    """DualProj's weights: the mean's, or more where the mean would conflict."""
    return np.maximum(0.5, -0.5 * gram[0, 1] / np.diagonal(gram))


def even_pair(gram: Array) -> Array:
    """Weights of sum 2 that make both gradients equally long."""
    return 2 * bisecting_pair(gram)


# A task that is given twice may count twice.
HARMLESS = {"descends": ALL, "certified": True, "equivariant": ALL, "rests": True}

EXACT = {**HARMLESS, "ignores_duplicates": True}


def fair_grad(alpha: float) -> Contract:
    """A row for FairGrad, whose weights of orthogonal gradients are G_ii^(−α/(1+α))."""
    exponent = -alpha / (1 + alpha)
    return Contract(
        make=lambda: gb.FairGrad(alpha=alpha),
        scale_exponent=exponent,
        single=4.0**exponent,
        pair=bargaining_pair if alpha == 1 else None,
        **HARMLESS,
    )


CONTRACTS = {
    "Uniform": Contract(make=gb.Uniform, equivariant=ALL, pair=lambda gram: np.ones(2)),
    "MGDA": Contract(make=gb.MGDA, pair=shortest_pair, **EXACT),
    "MGDA-l2": Contract(make=lambda: gb.MGDA(normalization="l2"), **EXACT),
    "MGDA-loss": Contract(make=lambda: gb.MGDA(normalization="loss"), **EXACT),
    "MGDA-loss+": Contract(make=lambda: gb.MGDA(normalization="loss+"), **EXACT),
    "UPGrad": Contract(make=gb.UPGrad, pair=unconflicting_pair, **HARMLESS),
    "DualProj": Contract(make=gb.DualProj, pair=dual_pair, **HARMLESS),
    # These may stop at their limit of steps, where ties were broken in the order of the tasks.
    "MGDA-frank_wolfe": Contract(
        make=lambda: gb.MGDA(method="frank_wolfe"), descends=2, equivariant=2, pair=shortest_pair
    ),
    "MGDA-away_steps": Contract(
        make=lambda: gb.MGDA(method="away_steps"), descends=2, equivariant=2, pair=shortest_pair
    ),
    "PCGrad": Contract(make=gb.PCGrad, descends=2, equivariant=2, pair=projected_pair),
    "PCGrad-mean": Contract(
        make=lambda: gb.PCGrad(reduction="mean"),
        descends=2,
        equivariant=2,
        pair=unconflicting_pair,
    ),
    "GradVac": Contract(make=gb.GradVac, equivariant=2, pair=projected_pair),
    "GradVac-fast": Contract(make=lambda: gb.GradVac(beta=0.9), equivariant=2),
    "GradNorm": Contract(make=gb.GradNorm, equivariant=ALL),
    "CAGrad": Contract(make=gb.CAGrad, certified=True, equivariant=ALL, single=1.5),
    # Its ball touches zero, and rounding of its radius counts more the shorter the mean gradient
    # is: see test_cagrad for its descent.
    "CAGrad-1": Contract(
        make=lambda: gb.CAGrad(c=1.0),
        certified=True,
        equivariant=ALL,
        rests=True,
        single=2.0,
    ),
    "CAGrad-1.5-rescale": Contract(
        make=lambda: gb.CAGrad(c=1.5, rescale=True),
        descends=ALL,
        certified=True,
        equivariant=ALL,
        rests=True,
        single=2.5 / 3.25,
    ),
    "CRMOGM-MGDA": Contract(make=lambda: gb.CRMOGM(gb.MGDA()), equivariant=ALL),
    "CRMOGM-GradNorm": Contract(make=lambda: gb.CRMOGM(gb.GradNorm()), equivariant=ALL),
    "AlignedMTL": Contract(make=gb.AlignedMTL, equivariant=ALL, pair=aligned_pair),
    "AlignedMTL-median": Contract(make=lambda: gb.AlignedMTL(scale_mode="median"), equivariant=ALL),
    "AlignedMTL-rmse": Contract(make=lambda: gb.AlignedMTL(scale_mode="rmse"), equivariant=ALL),
    "IMTLG": Contract(
        make=gb.IMTLG,
        descends=ALL,
        equivariant=ALL,
        ignores_duplicates=True,
        pair=bisecting_pair,
    ),
    "ConFIG": Contract(
        make=gb.ConFIG,
        descends=ALL,
        equivariant=ALL,
        ignores_duplicates=True,
        pair=lambda gram: np.sqrt(np.diagonal(gram)).sum() / (2 * np.sqrt(np.diagonal(gram))),
    ),
    "NashMTL": Contract(
        make=gb.NashMTL, scale_exponent=-0.5, single=0.5, pair=bargaining_pair, **HARMLESS
    ),
    # ‖d‖ is the root of the number of tasks at any scale, so that clipping it changes no exponent.
    "NashMTL-max_norm": Contract(
        make=lambda: gb.NashMTL(max_norm=1.0),
        scale_exponent=-0.5,
        single=0.5,
        pair=lambda gram: bargaining_pair(gram) / np.sqrt(2),
        **HARMLESS,
    ),
    "FairGrad": fair_grad(1.0),
    "FairGrad-0.5": fair_grad(0.5),
    "FairGrad-2": fair_grad(2.0),
    "FairGrad-5": fair_grad(5.0),
    "UW": Contract(make=gb.UW, equivariant=ALL, single=0.5),
    "IMTLL": Contract(make=gb.IMTLL, equivariant=ALL),
    "GLS": Contract(make=gb.GLS, equivariant=ALL),
    "SI": Contract(make=gb.SI, equivariant=ALL, single=0.5),
    "STCH": Contract(make=gb.STCH, equivariant=ALL),
    "STCH-small-mu": Contract(make=lambda: gb.STCH(mu=1e-3), equivariant=ALL),
    "RLW": Contract(make=gb.RLW),  # the weights are drawn in the order of the tasks
    "DWA": Contract(make=gb.DWA, equivariant=ALL),
    "SoftAdapt": Contract(make=gb.SoftAdapt, equivariant=ALL),
    "SoftAdapt-smooth": Contract(
        make=lambda: gb.SoftAdapt(beta=-2.0, normalized=True, loss_weighted=True, decay=0.9),
        equivariant=ALL,
    ),
    "ReLoBRaLo": Contract(make=gb.ReLoBRaLo, equivariant=ALL),
    "ReLoBRaLo-fast": Contract(
        make=lambda: gb.ReLoBRaLo(alpha=0.5, temperature=1.0, expected_rho=0.5), equivariant=ALL
    ),
    "FAMO": Contract(make=gb.FAMO, equivariant=ALL),
    "DBMTL": Contract(make=gb.DBMTL, equivariant=ALL, single=0.5),
    "CRMOGM-FAMO": Contract(make=lambda: gb.CRMOGM(gb.FAMO()), equivariant=ALL),
    # A shortest vector may have several weights, which a bound takes to different directions.
    "Bounded-MGDA": Contract(make=lambda: gb.Bounded(gb.MGDA(), ratio=2)),
    "Bounded-GradNorm": Contract(make=lambda: gb.Bounded(gb.GradNorm()), equivariant=ALL),
    "Bounded-ConFIG": Contract(make=lambda: gb.Bounded(gb.ConFIG()), equivariant=ALL),
    "Bounded-FAMO": Contract(make=lambda: gb.Bounded(gb.FAMO(), ratio=1), equivariant=ALL),
    "InverseNorm": Contract(make=gb.InverseNorm, equivariant=ALL, pair=even_pair),
    "InverseNorm-loss+": Contract(make=lambda: gb.InverseNorm("loss+", decay=0.9), equivariant=ALL),
    # What the method claims survives any scales, but for the exponent.
    "Scaled-UPGrad-InverseNorm": Contract(
        make=lambda: gb.Scaled(gb.UPGrad(), by=gb.InverseNorm("loss+", decay=0.5)), **HARMLESS
    ),
    "Scaled-MGDA-UW": Contract(make=lambda: gb.Scaled(gb.MGDA(), by=gb.UW()), single=0.5, **EXACT),
    "Scaled-IMTLG-IMTLL": Contract(
        make=lambda: gb.Scaled(gb.IMTLG(), by=gb.IMTLL()), descends=ALL, equivariant=ALL
    ),
    "Scaled-GradNorm-DWA": Contract(
        make=lambda: gb.Scaled(gb.GradNorm(), by=gb.DWA()), equivariant=ALL
    ),
    "Shifted-SI": Contract(
        make=lambda: gb.Shifted(gb.SI(), min_losses=-1.0),
        equivariant=ALL,
        single=1 / 3,
    ),
    "AveragedGramian-MGDA": Contract(
        make=lambda: gb.AveragedGramian(gb.MGDA(), decay=0.5), equivariant=ALL
    ),
    "AveragedGramian-GradVac": Contract(make=lambda: gb.AveragedGramian(gb.GradVac())),
    # With τ = 0 it is the primary's projection; with more the primary itself may rise.
    "PCD": Contract(make=gb.PCD, equivariant=0, rests=True),
    "PCD-0": Contract(make=lambda: gb.PCD(tau=0.0, beta=0.0), descends=ALL, rests=True),
    "MainTask": Contract(make=gb.MainTask, certified=True),
    "MainTask-0": Contract(make=lambda: gb.MainTask(rate=0.0), certified=True),
    "GradCosine": Contract(make=gb.GradCosine),
    "GradCosine-gate": Contract(make=lambda: gb.GradCosine(weighted=False)),
    "DBGD": Contract(make=lambda: gb.DBGD({}), certified=True, equivariant=ALL),
    "EPO": Contract(make=gb.EPO),
    "Krum": Contract(make=gb.Krum),
    "SDMGrad": Contract(make=gb.SDMGrad, equivariant=ALL),
    "MoDo": Contract(make=gb.MoDo, equivariant=ALL, scale_exponent=None),
}
