"""SDMGrad: weights near a preferred direction, from the Gramian of two independent batches."""

from typing import final

import numpy as np

from gradbalance.numerics import nearest_in_simplex
from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_count, check_number
from gradbalance.solvers.stochastic import Batches, StochasticSolver

_NOTHING = 1e-300  # a squared norm that counts as zero


@final
class SDMGrad(StochasticSolver):
    r"""Stochastic direction-oriented multi-objective gradient: MGDA near the mean gradient.

    .. math::
        \min_{w \in \Delta} \tfrac12 \|J^\top w\|^2 + \lambda \langle J^\top w, J^\top p \rangle:
        \qquad v \leftarrow m v + A (w + \lambda p), \quad
        w \leftarrow \Pi_\Delta(w - \eta v), \qquad
        d = J^\top \frac{w + \lambda p}{1 + \lambda}

    with J [T, P] the gradients, Δ the simplex, Π_Δ the projection onto it, p_i = 1/T, and A the
    cross Gramian J₁J₂ᵀ of two independent batches, divided by the square of the mean norm. Each
    step takes `num_iters` such iterations; v starts at 0, and w at its value after the last step
    (initially 1/T). For λ = 0 the method approaches the direction of MGDA, for large λ the mean
    gradient. Products of two batches are unbiased, but dividing them by norms from the same batches
    is biased if gradients are mostly noise. No task's loss is guaranteed to decrease on a single
    batch.

    Args:
        batches: the names of the losses on two or three batches, with tasks in the same order, for
            example [["seg 1", "depth 1"], ["seg 2", "depth 2"]]. You can use the halves of one
            batch, which cost no more than the whole. With three batches, the step is along the
            third. None for a single batch, with the bias. A model with heads must name its trunk,
            `SharedParameters(model.trunk)`, because two losses reach each head, so that it looks
            shared. With `heads="raw"`, heads get the sum of the halves' gradients, and the trunk
            their mean.
        lam: λ ≥ 0, the weight of the mean gradient.
        lr: η > 0, the step size of the weights.
        momentum: m in [0, 1), the momentum of the weights.
        num_iters: the number of iterations per step.

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

    Deviation: no constant is added to the norms; a squared norm counts as 0 if the product of the
    two batches is negative. The official code for supervised tasks multiplies d by T and clips it
    (here, use `Balancer(scale=...)` for the length), and its three batches are the same one,
    because of an aliased list.
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
