"""Runs of several methods side by side, from their metrics."""

from gradbalance.comparison.comparison import Comparison
from gradbalance.comparison.runs import compare

__all__ = ["Comparison", "compare"]
