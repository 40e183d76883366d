"""MoDo: update weights with the Gramian of two independent batches, one iteration per step."""

from typing import final

from gradbalance.numerics import nearest_in_simplex
from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_number
from gradbalance.solvers.stochastic import Batches, StochasticSolver


@final
class MoDo(StochasticSolver):
    r"""Multi-objective gradient with double sampling: projected gradient steps on MGDA's weights.

    .. math::
        w \leftarrow \Pi_\Delta \big( w - \gamma (J_1 J_2^\top w + \rho w) \big), \qquad
        d = \tfrac12 (J_1 + J_2)^\top w \;\text{ or }\; J_3^\top w

    with J_k [T, P] the gradients on independent batches, Δ the simplex, Π_Δ the projection onto it,
    and w initially 1/T. In expectation, w follows the gradient of ‖E[J]ᵀw‖². With a single batch it
    would not, because E[J Jᵀ] contains the variances of the gradients. The updated weights are
    applied. No task's loss is guaranteed to decrease on a single batch. γ has the inverse unit of
    squared gradients; if gradients are large, use a smaller γ, or
    `Scaled(MoDo(), by=InverseNorm(decay=0.9))`.

    Args:
        batches: the names of the losses on two or three batches, with tasks in the same order, for
            example [["seg 1", "depth 1"], ["seg 2", "depth 2"]]. You can use the halves of one
            batch, which cost no more than the whole. None for a single batch, with the bias. A
            model with heads must name its trunk, `SharedParameters(model.trunk)`, because two
            losses reach each head, so that it looks shared. With `heads="raw"`, heads get the sum
            of the halves' gradients, and the trunk their mean.
        gamma: γ > 0, the step size of the weights.
        rho: ρ ≥ 0, which pulls the weights towards equal ones.

    Raises:
        ValueError: an option is out of range, or the batches do not fit the losses.

    Example:
        >>> import gradbalance as gb
        >>> solver = gb.MoDo(gamma=0.1, rho=0.0)
        >>> problem = gb.Problem.of([[4.0, 0.0], [0.0, 1.0]])
        >>> for _ in range(200):
        ...     solution = solver.solve(problem)
        ...     solver.update(problem, solution)
        >>> solution.weights.round(3)  # MGDA's
        array([0.2, 0.8])

    References:
        Chen et al. 2023, Three-way trade-off in multi-objective learning, arXiv 2305.20057.

    Deviation: the official code for models adds the gradients of the two batches; here their mean
    is used.
    """

    def __init__(
        self, *, batches: Batches | None = None, gamma: float = 0.1, rho: float = 0.1
    ) -> None:
        super().__init__(batches)
        check_number("gamma", gamma, "(0, inf)")
        check_number("rho", rho, "[0, inf)")
        self.gamma = gamma
        self.rho = rho

    def _followed(self, weights: Array, cross: Array) -> Array:
        return nearest_in_simplex(weights - self.gamma * (cross @ weights + self.rho * weights))

    def _applied(self, weights: Array) -> Array:
        return weights
