"""The difference between two sets of values, with a confidence interval."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.stats import t as student  # type: ignore[import-untyped]

from gradbalance.numerics.array import Array
from gradbalance.numerics.intervals import half_width


@dataclass(frozen=True)
class Difference:
    """The difference of a metric between a method and the baseline.

    Attributes:
        mean: the mean difference, in the unit of the metric.
        low: the lower end of the 95 % confidence interval; NaN with too few seeds.
        high: the upper end of the interval.
        paired: whether runs were compared in pairs with the same seed.
    """

    mean: float
    low: float
    high: float
    paired: bool

    def __str__(self) -> str:
        known = np.isfinite(self.low)
        interval = f" [{self.low:+.2g}, {self.high:+.2g}]" if known else ""
        return f"{self.mean:+.3g}{interval}{'' if self.paired else '*'}"


def difference(ours: Array, theirs: Array) -> Difference:
    """The difference of two means, with Student's 95 % interval.

    The values are paired if there are equally many of both; else the interval is Welch's.

    Args:
        ours: [n] the values of the method.
        theirs: [m] the values of the baseline.
    """
    if len(ours) == len(theirs):
        changes = ours - theirs
        mean = float(changes.mean())
        half = float(half_width(changes)) if len(changes) > 1 else np.nan
        return Difference(mean, mean - half, mean + half, paired=True)
    mean = float(ours.mean() - theirs.mean())
    squares = np.array([sample_sd(values) ** 2 / len(values) for values in (ours, theirs)])
    freedom = np.array([len(ours) - 1, len(theirs) - 1])
    error = sqrt(squares.sum())
    known = np.isfinite(error) and error > 0
    quantile = student.ppf(0.975, error**4 / (squares**2 / freedom).sum()) if known else 1.0
    half = error * float(quantile)
    return Difference(mean, mean - half, mean + half, paired=False)


def sample_sd(values: Array) -> float:
    """The standard deviation with n − 1 in the denominator; NaN for a single value."""
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")
