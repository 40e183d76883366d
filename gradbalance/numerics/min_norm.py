"""The minimum-norm point in the convex hull of rows, given their Gramian."""

import math
from typing import Literal, NamedTuple

import numpy as np

from gradbalance.numerics.active_set import active_set
from gradbalance.numerics.array import Array
from gradbalance.numerics.certificate import Certificate, certify
from gradbalance.numerics.checks import check_choice, check_count, check_number
from gradbalance.numerics.frank_wolfe import away_steps, frank_wolfe
from gradbalance.numerics.status import Status


class MinNormPoint(NamedTuple):
    """Weights of the minimum-norm point, and their certificate.

    Attributes:
        weights: The weights w [T], not negative, with sum 1.
        status: Whether the certificate holds, and whether the norm is zero up to rounding.
        num_steps: The number of steps taken; 0 for a closed form.
        certificate: The largest (wᵀGw − (Gw)_i) / (tol·wᵀGw + T·ε·S·max(√G_ii, S)) of any row, with
            S = Σ_j w_j √G_jj, ε the float64 unit roundoff, and 0/0 = 0. Certified if at most 1.

    Example:
        >>> from gradbalance.numerics import as_gramian, min_norm_point
        >>> point = min_norm_point(as_gramian([[2.0, 1.0], [1.0, 2.0]]))
        >>> point.status
        <Status.CONVERGED: 'converged'>
        >>> point.certificate <= 1.0
        True
    """

    weights: Array
    status: Status
    num_steps: int
    certificate: float


def min_norm_point(
    gram: Array,
    *,
    method: Literal["active_set", "frank_wolfe", "away_steps"] = "active_set",
    tol: float = 1e-10,
    max_steps: int | None = None,
) -> MinNormPoint:
    """Find the weights of the minimum-norm point in the convex hull of T rows.

        min_w wᵀGw   over w ≥ 0, Σ_i w_i = 1,   with G = J Jᵀ

    Every method solves problems with one or two rows, or with zero rows, in closed form. The
    weights need not be unique (two equal rows can share a weight in any way), but Jᵀw is.

    Args:
        gram: The Gramian G [T, T] of the rows of J [T, P], as returned by `as_gramian`; it is not
            checked again.
        method: "active_set" is exact; "frank_wolfe" steps towards one row at a time, with exact
            line search, and is slow (use it for comparison, for example with a tol of 1e-3);
            "away_steps" can also step away from a row, and converges linearly.
        tol: The relative gap of the certificate, see `MinNormPoint`. Rounding errors are allowed in
            addition, so 0 is a valid value.
        max_steps: The limit of steps. By default 20·T + 50 for "active_set", 250 for "frank_wolfe"
            as in its authors' code, and 100·T + 1000 for "away_steps".

    Returns:
        The weights, with status and certificate. The status is `STATIONARY` if the norm of the
        point is zero up to rounding: wᵀGw ≤ T·ε·S².

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> import numpy as np
        >>> from gradbalance.numerics import min_norm_point
        >>> jac = np.array([[1.0, 0.0], [0.0, 2.0]])
        >>> min_norm_point(jac @ jac.T).weights
        array([0.8, 0.2])

    References:
        Wolfe, Finding the nearest point in a polytope, 1976 ("active_set"); Sener and Koltun,
        Multi-task learning as multi-objective optimization, 2018, arXiv:1810.04650, Algorithm 2
        ("frank_wolfe", but it stops on the certificate and not on the length of a step);
        Lacoste-Julien and Jaggi, 2015, arXiv:1511.05932, Algorithm 1 ("away_steps").
    """
    check_choice("method", method, _METHODS)
    check_number("tol", tol, "[0, 1)")
    if max_steps is not None:
        check_count("max_steps", max_steps)
    diagonal = gram.diagonal()
    # A power of two, so that scaling G by a power of two does not change the weights.
    exponent = math.frexp(diagonal[diagonal.argmax()])[1]
    matrix = gram * math.ldexp(1.0, min(-exponent, 1000))
    norms = np.sqrt(matrix.diagonal())
    if norms[norms.argmin()] == 0.0:
        weights = (norms == 0.0) / np.count_nonzero(norms == 0.0)
        return _result(weights, certify(matrix, norms, weights, tol), 0)
    if norms.size <= 2:
        weights = _closed_form(matrix)
        return _result(weights, certify(matrix, norms, weights, tol), 0)
    solve, steps_per_task, steps_at_least = _METHODS[method]
    if max_steps is None:
        max_steps = steps_per_task * norms.size + steps_at_least
    return _result(*solve(matrix, norms, tol, max_steps))


_METHODS = {
    "active_set": (active_set, 20, 50),
    "frank_wolfe": (frank_wolfe, 0, 250),
    "away_steps": (away_steps, 100, 1000),
}


def _closed_form(gram: Array) -> Array:
    if gram.size == 1:
        return np.ones(1)
    (square, inner), (_, other_square) = gram.tolist()
    # Each weight from its own difference, since 1 − w would lose a small weight.
    first, second = max(other_square - inner, 0.0), max(square - inner, 0.0)
    total = first + second
    return np.array([first / total, second / total]) if total > 0.0 else np.full(2, 0.5)


def _result(weights: Array, certificate: Certificate, num_steps: int) -> MinNormPoint:
    status = Status.of(certificate.worst, stationary=certificate.stationary)
    return MinNormPoint(weights, status, num_steps, certificate.worst)
