"""How far two sets of values differ, and how surely."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.stats import t as student  # type: ignore[import-untyped]

from gradbalance.numerics.array import Array
from gradbalance.numerics.intervals import half_width


@dataclass(frozen=True)
class Difference:
    """A metric of a method minus that of the baseline.

    Attributes:
        mean: in the unit of the metric.
        low: the lower end of the 95 % confidence interval, NaN where there are too few seeds.
        high: its upper end.
        paired: whether it is of the same seeds, taken in pairs.
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
    """The mean of the one minus that of the other, with Student's 95 % interval.

    Paired where there are as many of both; else the interval is Welch's.

    Args:
        ours: [n].
        theirs: [m].
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
    """With n − 1 in the denominator; NaN of a single value."""
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")
