"""The vector in the span of rows whose projections onto the rows are given."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gradbalance.numerics.array import Array
from gradbalance.numerics.spectrum import spectrum
from gradbalance.numerics.status import Status


class GivenProjections(NamedTuple):
    """Weights whose direction has given projections, or projections as near as there are.

    Attributes:
        weights: The weights w [T]; zero for zero rows.
        projections: What the projections ⟨g_i, Jᵀw⟩/‖g_i‖ [T] are; zero for zero rows.
        status: `CONVERGED` where they are as asked for, `ILL_POSED` where no vector has such
            projections and these are the nearest in the mean square, `STATIONARY` where the
            nearest are zero, as with opposed rows.

    Example:
        >>> from gradbalance.numerics import as_gramian, given_projections
        >>> given_projections(as_gramian([[1.0, -1.0], [-1.0, 1.0]]), [1.0, 1.0]).status
        <Status.STATIONARY: 'stationary'>
    """

    weights: Array
    projections: Array
    status: Status


def given_projections(
    gram: Array, targets: ArrayLike, *, rank_tol: float = 1e-12
) -> GivenProjections:
    """Find the shortest vector of the rows' span with given projections onto the rows.

        ⟨g_i, Jᵀw⟩/‖g_i‖ = p_i,   that is  C y = p,  y = C⁺p,  w_i = y_i/‖g_i‖

    with the matrix of cosines C, which the rows' norms do not enter. Duplicated rows share their
    weight; zero rows are left out.

    Args:
        gram: The Gramian G [T, T], as `as_gramian` returns it:
            that it is one is not checked again.
        targets: The projections p [T], positive.
        rank_tol: The eigenvalues of C below rank_tol times its largest count as zero. The
            projections are taken to be as asked for when they are up to √rank_tol, which is how
            far a row may move unnoticed.

    Raises:
        ValueError: If rank_tol is out of its range.

    Example:
        >>> from gradbalance.numerics import as_gramian, given_projections
        >>> given_projections(as_gramian([[4.0, 0.0], [0.0, 1.0]]), [1.0, 1.0]).weights
        array([0.5, 1. ])
    """
    norms = np.sqrt(np.maximum(gram.diagonal(), 0.0))
    rows = np.flatnonzero(norms)
    weights, projections = np.zeros(norms.size), np.zeros(norms.size)
    if rows.size == 0:
        return GivenProjections(weights, projections, Status.STATIONARY)
    norms, wanted = norms[rows], np.asarray(targets, dtype=np.float64)[rows]
    values, vectors = spectrum(gram[np.ix_(rows, rows)] / norms / norms[:, None], rank_tol=rank_tol)
    components = vectors.T @ wanted
    found = vectors @ components
    tolerance = math.sqrt(rank_tol) * float(wanted.max())
    if np.abs(found).max() <= tolerance:
        return GivenProjections(weights, projections, Status.STATIONARY)
    weights[rows] = vectors @ (components / values) / norms
    projections[rows] = found
    met = np.abs(found - wanted).max() <= tolerance
    return GivenProjections(weights, projections, Status.CONVERGED if met else Status.ILL_POSED)
