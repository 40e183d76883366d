"""The mathematical problems that solvers are built on, for T×T matrices, in float64 NumPy."""

from gradbalance.numerics.adam import adam_step
from gradbalance.numerics.barrier import BarrierPoint, barrier_point
from gradbalance.numerics.bounded_qp import BoundedMinima, bounded_minima
from gradbalance.numerics.gramian import as_gramian, gramian_of_rows
from gradbalance.numerics.max_min import MaxMinVector, max_min_vector
from gradbalance.numerics.min_norm import MinNormPoint, min_norm_point
from gradbalance.numerics.nearest import NearestVector, nearest_vector
from gradbalance.numerics.projections import GivenProjections, given_projections
from gradbalance.numerics.resolution import relative_length, resolution
from gradbalance.numerics.simplex import nearest_in_simplex
from gradbalance.numerics.spectrum import Spectrum, spectrum
from gradbalance.numerics.status import Status

__all__ = [
    "BarrierPoint",
    "BoundedMinima",
    "GivenProjections",
    "MaxMinVector",
    "MinNormPoint",
    "NearestVector",
    "Spectrum",
    "Status",
    "adam_step",
    "as_gramian",
    "barrier_point",
    "bounded_minima",
    "given_projections",
    "gramian_of_rows",
    "max_min_vector",
    "min_norm_point",
    "nearest_in_simplex",
    "nearest_vector",
    "relative_length",
    "resolution",
    "spectrum",
]
