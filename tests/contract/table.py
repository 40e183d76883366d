"""One row a solver: what it claims. A new solver adds its row here."""

from collections.abc import Callable
from dataclasses import dataclass

import gradbalance as gb


@dataclass(frozen=True)
class Contract:
    """What a solver claims.

    Attributes:
        make: builds it.
        descends: for how many tasks no loss rises along the direction: 0 for none, 2 for pairs
            only, a large number for always.
        certified: whether its answers carry a certificate of optimality.
        equivariant: for how many tasks the direction does not depend on their order.
        scale_free: whether scaling all gradients leaves the weights as they are.
        rests: whether it returns a direction of length 0 where the gradients balance.
    """

    make: Callable[[], gb.Solver]
    descends: int
    certified: bool
    equivariant: int
    scale_free: bool
    rests: bool


ALL = 1000

CONTRACTS = {
    "Uniform": Contract(gb.Uniform, 0, False, ALL, True, False),
    "MGDA": Contract(gb.MGDA, ALL, True, ALL, True, True),
    "MGDA-l2": Contract(lambda: gb.MGDA(normalization="l2"), ALL, True, ALL, True, True),
    "MGDA-loss": Contract(lambda: gb.MGDA(normalization="loss"), ALL, True, ALL, True, True),
    "MGDA-loss+": Contract(lambda: gb.MGDA(normalization="loss+"), ALL, True, ALL, True, True),
    # These may stop at their limit of steps, where ties were broken in the order of the tasks.
    "MGDA-frank_wolfe": Contract(lambda: gb.MGDA(method="frank_wolfe"), 2, False, 2, True, False),
    "MGDA-away_steps": Contract(lambda: gb.MGDA(method="away_steps"), 2, False, 2, True, False),
    "PCGrad": Contract(gb.PCGrad, 2, False, 2, True, False),
    "PCGrad-mean": Contract(lambda: gb.PCGrad(reduction="mean"), 2, False, 2, True, False),
    "GradNorm": Contract(gb.GradNorm, 0, False, ALL, True, False),
}
