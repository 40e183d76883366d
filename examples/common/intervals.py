"""Confidence intervals over seeds."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student  # type: ignore[import-untyped]


def interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean of some values, and the ends of Student's 95 % confidence interval.

    Args:
        values: Two or more values.
    """
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)
