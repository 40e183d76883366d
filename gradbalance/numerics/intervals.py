"""Confidence intervals of means and fractions over a few batches."""

import math

import numpy as np
from scipy.special import stdtrit  # type: ignore[import-untyped]

from gradbalance.numerics.array import Array

_NORMAL = 1.959963984540054  # 95 % of a normal distribution is within this many sd


def half_width(values: Array, num_means: int = 1) -> Array:
    """Half the width of Student's 95 % interval of the mean over the first axis.

    Args:
        values: [n, ...] with n independent values.
        num_means: the number of intervals that hold together, by Bonferroni's correction.
    """
    count = len(values)
    quantile = stdtrit(count - 1, 1 - 0.025 / num_means)
    width: Array = quantile * values.std(axis=0, ddof=1) / math.sqrt(count)
    return width


def share_interval(shares: Array, size: int) -> tuple[float, float]:
    """The 95 % interval of a fraction, observed on n batches of `size` cases each.

    This is Wilson's interval for the effective number of independent cases: the number that would
    spread as much as the batches do (Korn and Graubard 1998, https://doi.org/10.2307/2533974).
    Cases of one batch may be dependent, so it is at least n, as if each batch were a single case,
    and at most n · size.
    """
    num_batches, mean = len(shares), float(shares.mean())
    count = float(num_batches)
    spread = float(half_width(shares)) / _NORMAL
    if 0 < mean < 1:
        wanted = mean * (1 - mean) / spread**2 if spread > 0 else math.inf
        count = float(np.clip(wanted, num_batches, num_batches * size))
    square = _NORMAL**2 / count
    middle = (mean + square / 2) / (1 + square)
    half = math.sqrt(square * (mean * (1 - mean) + square / 4)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)
