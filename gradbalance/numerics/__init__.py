"""Mathematics on T×T matrices, in float64 NumPy: problems, not methods of any paper."""

from gradbalance.numerics.adam import adam_step
from gradbalance.numerics.gramian import as_gramian
from gradbalance.numerics.min_norm import MinNormPoint, min_norm_point
from gradbalance.numerics.status import Status

__all__ = ["MinNormPoint", "Status", "adam_step", "as_gramian", "min_norm_point"]
