"""UW: losses weighted by a learned uncertainty of each task."""

from typing import final

from gradbalance.solvers.learned import LearnedScales


@final
class UW(LearnedScales):
    r"""Uncertainty weighting: each task has a learned log variance s.

    .. math::
        F = \sum_j \tfrac12 e^{-s_j} L_j + \tfrac12 s_j, \qquad
        w_i = \frac{\partial F}{\partial L_i} = \tfrac12 e^{-s_i}, \qquad
        s \leftarrow s - \mathrm{lr} \cdot \mathrm{Adam}\big( \tfrac12 (1 - e^{-s} L) \big)

    with L [T] the losses and s [T], 0 at first. At rest s_i = log L_i and w_i = 1/(2 L_i). The
    weights w(t) are applied and reported, then s is updated, in closed form and without weight
    decay, which would pull a weight towards ½. Promises no task a decrease.

    Args:
        lr: step of s, > 0. Adam remembers the large first gradients of a loss far above 1: at the
            default a loss of 10 is met within 10 % after 270 steps, one of 1000 after 4400. Divide
            such losses by a constant.

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

    Deviation: all tasks take the form for regression (a classification has e^(−s) L + ½s in the
    paper). s has an Adam of its own, without its ε; published codes add it to the model's
    optimizer, and its weight decay with it.
    """

    _at_rest = 0.5
