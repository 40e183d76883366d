"""Compare the runs of several methods by their metrics."""

from gradbalance.comparison.comparison import Comparison
from gradbalance.comparison.runs import compare

__all__ = ["Comparison", "compare"]
