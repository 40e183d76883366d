"""IMTL-L: learn scales that bring all losses to 1."""

from typing import final

from gradbalance.solvers.learned import LearnedScales


@final
class IMTLL(LearnedScales):
    r"""Impartial multi-task learning, loss balance: learned scales bring all losses to 1.

    .. math::
        F = \sum_j e^{s_j} L_j - s_j, \qquad
        w_i = \frac{\partial F}{\partial L_i} = e^{s_i}, \qquad
        s \leftarrow s - \mathrm{lr} \cdot \mathrm{Adam}(e^{s} L - 1)

    with L [T] the losses and s [T] the log scales, initially 0. At the fixed point w_i L_i = 1. The
    weights w(t) are applied and reported, then s is updated, in closed form and without weight
    decay. No task's loss is guaranteed to decrease.

    Args:
        lr: the learning rate of s, > 0. For a loss far above 1, Adam remembers the large first
            gradients: with the default, the weighted loss is within 10 % of its fixed point after
            270 steps for a loss of 10, and after 4400 steps for a loss of 1000. Divide such losses
            by a constant.

    Raises:
        ValueError: `lr` is out of range, or a loss is not positive (F has no minimum then).

    Example:
        >>> import gradbalance as gb
        >>> solver = gb.IMTLL(lr=0.1)
        >>> problem = gb.Problem.of(losses=[2.0, 0.5])
        >>> solution = solver.solve(problem)
        >>> solution.weights
        array([1., 1.])
        >>> solver.update(problem, solution)
        >>> solver.solve(problem).weights.round(3)
        array([0.905, 1.105])

    References:
        Liu et al. 2021, Towards impartial multi-task learning, ICLR 2021. `UW` (arXiv 1705.07115)
        is the same with s = −s and half the weights.

    Deviation: s has its own Adam, without ε, instead of being part of the model's optimizer.
    """

    _at_rest = 1.0
