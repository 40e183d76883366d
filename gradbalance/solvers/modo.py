"""MoDo: weights that follow the Gramian of two independent batches, a step at a time."""

from typing import final

from gradbalance.numerics import nearest_in_simplex
from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_number
from gradbalance.solvers.stochastic import Batches, StochasticSolver


@final
class MoDo(StochasticSolver):
    r"""Multi-objective gradient with double sampling: projected steps on MGDA's weights.

    .. math::
        w \leftarrow \Pi_\Delta \big( w - \gamma (J_1 J_2^\top w + \rho w) \big), \qquad
        d = \tfrac12 (J_1 + J_2)^\top w \;\text{ or }\; J_3^\top w

    with J_k [T, P] the gradients on independent batches, the simplex Δ and w = 1/T at first. In
    expectation w descends ‖E[J]ᵀw‖², which it would not on one batch: E[J Jᵀ] holds the gradients'
    variances. The moved weights are applied. Promises no task a decrease on any one batch. γ is in
    inverse units of squared gradients; with large ones take it smaller, or
    `Scaled(MoDo(), by=InverseNorm(decay=0.9))`.

    Args:
        batches: the names of the losses on two or three batches, tasks in the same order, such as
            [["seg 1", "depth 1"], ["seg 2", "depth 2"]]. Halves of one batch will do, and cost no
            more than the whole. None for one batch, and its bias. A model with heads must name
            its trunk, `SharedParameters(model.trunk)`: two losses reach each head, which so looks
            shared. `heads="raw"` sums the halves' gradients, of which the trunk has the mean.
        gamma: γ > 0, the step of the weights.
        rho: ρ ≥ 0, which draws them to even ones.

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

    Deviation: the official code for models adds the two batches where the mean is taken here.
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
