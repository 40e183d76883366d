"""How far two sets of values differ, and how surely."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.stats import t as student  # type: ignore[import-untyped]

from gradbalance.numerics.array import Array


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
    paired = len(ours) == len(theirs)
    if paired:
        mean, error, freedom = _mean_error(ours - theirs)
    else:
        (mine, error_1, df_1), (other, error_2, df_2) = _mean_error(ours), _mean_error(theirs)
        mean, error = mine - other, sqrt(error_1**2 + error_2**2)
        freedom = error**4 / (error_1**4 / df_1 + error_2**4 / df_2) if error > 0 else 1.0
    half = error if error == 0 else error * float(student.ppf(0.975, freedom))
    return Difference(mean, mean - half, mean + half, paired)


def _mean_error(values: Array) -> tuple[float, float, float]:
    """The mean, its standard error and the degrees of freedom; NaN of a single value."""
    if len(values) == 1:
        return float(values[0]), np.nan, np.nan
    return float(values.mean()), sample_sd(values) / sqrt(len(values)), float(len(values) - 1)


def sample_sd(values: Array) -> float:
    """With n − 1 in the denominator; NaN of a single value."""
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")
