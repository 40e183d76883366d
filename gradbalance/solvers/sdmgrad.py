"""SDMGrad: weights near a preferred direction, from the Gramian of two independent batches."""

from typing import final

import numpy as np

from gradbalance.numerics import nearest_in_simplex
from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_count, check_number
from gradbalance.solvers.stochastic import Batches, StochasticSolver

_NOTHING = 1e-300  # of a squared norm, that is


@final
class SDMGrad(StochasticSolver):
    r"""Stochastic direction-oriented multi-objective gradient: MGDA that stays near the mean.

    .. math::
        \min_{w \in \Delta} \tfrac12 \|J^\top w\|^2 + \lambda \langle J^\top w, J^\top p \rangle:
        \qquad v \leftarrow m v + A (w + \lambda p), \quad
        w \leftarrow \Pi_\Delta(w - \eta v), \qquad
        d = J^\top \frac{w + \lambda p}{1 + \lambda}

    with p = 1/T, the simplex Δ, J [T, P] the gradients and A the cross Gramian J₁J₂ᵀ of two
    independent batches over the square of the mean norm. v is 0 at first, and w goes on from where
    it was, 1/T in the beginning; `num_iters` such iterations a step. For λ = 0 it aims at MGDA's
    direction, for large λ at the mean gradient. The products of two batches have no bias; their
    division by the same batches' norms has one where noise is much of a gradient. Promises no task
    a decrease on any one batch.

    Args:
        batches: the names of the losses on two or three batches, tasks in the same order, such as
            [["seg 1", "depth 1"], ["seg 2", "depth 2"]]. Halves of one batch will do, and cost no
            more than the whole; of three batches the third is descended. None for one batch, and
            its bias. A model with heads must name its trunk, `SharedParameters(model.trunk)`: two
            losses reach each head, which so looks shared. `heads="raw"` sums the halves' gradients,
            of which the trunk has the mean.
        lam: λ ≥ 0.
        lr: η > 0.
        momentum: m in [0, 1).
        num_iters: iterations in a step.

    Raises:
        ValueError: an option is out of range, or the batches do not fit the losses.

    Example:
        >>> import gradbalance as gb
        >>> halves = [["a1", "b1"], ["a2", "b2"]]
        >>> gram = [[4, 0, 3, 0], [0, 2, 0, 1], [3, 0, 4, 0], [0, 1, 0, 2]]
        >>> problem = gb.Problem.of(gram, names=["a1", "b1", "a2", "b2"])
        >>> solver = gb.SDMGrad(batches=halves, lam=0.0, lr=0.1, num_iters=200)
        >>> solver.solve(problem).weights.round(3)
        array([0.125, 0.375, 0.125, 0.375])

    References:
        Xiao, Ban & Ji 2023, Direction-oriented multi-objective learning, arXiv 2305.18409.

    Deviation: no constant is added to the norms; a squared norm that the two batches make negative
    counts as 0. The official code for supervised tasks multiplies d by T and clips it
    (`Balancer(scale=...)` sets the length here), and its three batches are one by an aliased list.
    """

    def __init__(
        self,
        *,
        batches: Batches | None = None,
        lam: float = 0.3,
        lr: float = 10.0,
        momentum: float = 0.5,
        num_iters: int = 20,
    ) -> None:
        super().__init__(batches)
        check_number("lam", lam, "[0, inf)")
        check_number("lr", lr, "(0, inf)")
        check_number("momentum", momentum, "[0, 1)")
        check_count("num_iters", num_iters, least=1)
        self.lam = lam
        self.lr = lr
        self.momentum = momentum
        self.num_iters = int(num_iters)

    def _followed(self, weights: Array, cross: Array) -> Array:
        norm = float(np.sqrt(np.maximum(cross.diagonal(), 0.0)).mean())
        if norm**2 <= _NOTHING:
            return weights
        normed, share = cross / norm / norm, self.lam / weights.size
        velocity: Array = np.zeros(weights.size)
        for _ in range(self.num_iters):
            velocity = self.momentum * velocity + normed @ (weights + share)
            weights = nearest_in_simplex(weights - self.lr * velocity)
        return weights

    def _applied(self, weights: Array) -> Array:
        return (weights + self.lam / max(weights.size, 1)) / (1 + self.lam)
