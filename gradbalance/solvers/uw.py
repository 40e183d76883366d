"""UW: weight each loss by a learned uncertainty of its task."""

from typing import final

from gradbalance.solvers.learned import LearnedScales


@final
class UW(LearnedScales):
    r"""Uncertainty weighting: each task has a learned log variance, which determines its weight.

    .. math::
        F = \sum_j \tfrac12 e^{-s_j} L_j + \tfrac12 s_j, \qquad
        w_i = \frac{\partial F}{\partial L_i} = \tfrac12 e^{-s_i}, \qquad
        s \leftarrow s - \mathrm{lr} \cdot \mathrm{Adam}\big( \tfrac12 (1 - e^{-s} L) \big)

    with L [T] the losses and s [T] the log variances, initially 0. At the fixed point s_i = log L_i
    and w_i = 1/(2 L_i). The weights w(t) are applied and reported, then s is updated, in closed
    form and without weight decay, which would pull weights towards ½. No task's loss is guaranteed
    to decrease.

    Args:
        lr: the learning rate of s, > 0. For a loss far above 1, Adam remembers the large first
            gradients: with the default, the weighted loss is within 10 % of its fixed point after
            270 steps for a loss of 10, and after 4400 steps for a loss of 1000. Divide such losses
            by a constant.

    Raises:
        ValueError: `lr` is out of range, or a loss is not positive (F has no minimum then).

    Example:
        >>> import gradbalance as gb
        >>> solver = gb.UW(lr=0.1)
        >>> problem = gb.Problem.of(losses=[2.0, 0.5])
        >>> solution = solver.solve(problem)
        >>> solution.weights
        array([0.5, 0.5])
        >>> solver.update(problem, solution)
        >>> solver.solve(problem).weights.round(3)
        array([0.452, 0.553])

    References:
        Kendall et al. 2018, arXiv 1705.07115.

    Deviation: all tasks use the form for regression (in the paper, classification has
    e^(−s) L + ½s). s has its own Adam, without ε; published implementations add it to the model's
    optimizer, with that optimizer's weight decay.
    """

    _at_rest = 0.5
