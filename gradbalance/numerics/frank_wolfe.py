"""Frank-Wolfe methods with exact line search for the minimum-norm point of a convex hull."""

import numpy as np

from gradbalance.numerics.array import Array
from gradbalance.numerics.certificate import Certificate, certify


def frank_wolfe(
    gram: Array, norms: Array, tol: float, max_steps: int
) -> tuple[Array, Certificate, int]:
    """Move from the mean of the rows towards one row at a time, with exact line search.

        t = argmin_i (Gw)_i,   w ← (1 − γ)w + γe_t,   γ = argmin_{γ ∈ [0, 1]} wᵀGw

    Args:
        gram: The Gramian G [T, T].
        norms: The norms √G_ii [T].
        tol: The relative gap of the certificate.
        max_steps: The limit of steps.

    Returns:
        The last weights [T], their certificate and the number of steps.

    References:
        Sener and Koltun, 2018, arXiv:1810.04650, Algorithm 2. Their code stops when a step is
        short, this one when the certificate holds.
    """
    weights: Array = np.full(norms.size, 1.0 / norms.size)
    certificate = certify(gram, norms, weights, tol)
    num_steps = 0
    while certificate.worst > 1.0 and num_steps < max_steps:
        num_steps += 1
        towards = int(certificate.gaps.argmax())
        direction = _from_to(weights, towards)
        gain = float(certificate.gaps[towards])
        weights = weights + _length(gram, direction, gain, 1.0) * direction
        weights /= weights.sum()  # else rounding errors add up
        certificate = certify(gram, norms, weights, tol)
    return weights, certificate, num_steps


def away_steps(
    gram: Array, norms: Array, tol: float, max_steps: int
) -> tuple[Array, Certificate, int]:
    """Like `frank_wolfe`, but step away from the worst row with a weight if that gains more.

        a = argmax_{i: w_i > 0} (Gw)_i;   away from a if (Gw)_a − wᵀGw > wᵀGw − (Gw)_t

    References:
        Lacoste-Julien and Jaggi, 2015, arXiv:1511.05932, Algorithm 1, started from the shortest
        row.
    """
    weights = np.zeros_like(norms)
    weights[norms.argmin()] = 1.0
    certificate = certify(gram, norms, weights, tol)
    num_steps = 0
    while certificate.worst > 1.0 and num_steps < max_steps:
        num_steps += 1
        towards = int(certificate.gaps.argmax())
        away = int(np.where(weights > 0.0, certificate.gaps, np.inf).argmin())
        gain, loss = float(certificate.gaps[towards]), float(-certificate.gaps[away])
        if gain >= loss:
            direction = _from_to(weights, towards)
            weights = weights + _length(gram, direction, gain, 1.0) * direction
        else:
            direction = -_from_to(weights, away)
            longest = float(weights[away] / (1.0 - weights[away]))
            length = _length(gram, direction, loss, longest)
            weights = weights + length * direction
            if length == longest:
                weights[away] = 0.0  # exactly, or rounding would keep the row in the support
        weights /= weights.sum()
        certificate = certify(gram, norms, weights, tol)
    return weights, certificate, num_steps


def _from_to(weights: Array, vertex: int) -> Array:
    direction = -weights
    direction[vertex] += 1.0
    return direction


def _length(gram: Array, direction: Array, slope: float, longest: float) -> float:
    """The best length of a step along which wᵀGw/2 initially decreases by `slope` per unit."""
    curvature = float(direction @ gram @ direction)
    return longest if curvature * longest <= slope else slope / curvature
