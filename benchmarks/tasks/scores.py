"""Summarises many metrics: Δm, ranks, and the difference of ranks that is significant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from benchmarks.tasks.suite import Metric

Array = NDArray[np.float64]
Values = Mapping[str, float]


def changes(values: Values, reference: Values, metrics: Mapping[str, Metric]) -> dict[str, float]:
    """By how many percent of the reference each metric is better; negative means worse.

    A reference of 0 counts as 1, so that an accuracy of 0 causes no division by zero.
    """
    return {
        name: 100
        * (1 if metric.higher_is_better else -1)
        * (values[name] - reference[name])
        / (abs(reference[name]) or 1.0)
        for name, metric in metrics.items()
    }


def delta_m(values: Values, reference: Values, metrics: Mapping[str, Metric]) -> float:
    r"""The mean change: \(\Delta_m = \frac{100}{M} \sum_i (-1)^{l_i} (m_i - b_i) / b_i\).

    Here m_i is metric i of M, b_i is its value with single-task training, and l_i = 1 if lower is
    better (Maninis et al. 2019, arXiv 1904.08918).
    """
    return float(np.mean(list(changes(values, reference, metrics).values())))


def ranks(scores: Array) -> Array:
    """Ranks [n, k] of k methods in each of n rows; 1 is the highest score, ties are averaged."""
    found: Array = stats.rankdata(-scores, axis=1)
    return found


@dataclass(frozen=True)
class Comparison:
    """Ranks of methods over suites.

    Attributes:
        mean_ranks: the mean rank [k] of each method.
        p_value: p-value of Friedman's test that all methods are alike; None for fewer than 3
            methods or 2 suites.
        critical_difference: mean ranks with a smaller difference do not differ significantly, by
            Nemenyi's test at 5 % (Demšar 2006).
    """

    mean_ranks: tuple[float, ...]
    p_value: float | None
    critical_difference: float | None

    @classmethod
    def of(cls, scores: Array) -> "Comparison":
        """From scores [suites, methods]; higher is better."""
        n, k = scores.shape
        mean_ranks = tuple(map(float, ranks(scores).mean(axis=0)))
        if k < 3 or n < 2:
            return cls(mean_ranks, None, None)
        p_value = float(stats.friedmanchisquare(*scores.T).pvalue)
        quantile = float(stats.studentized_range.ppf(0.95, k, np.inf)) / np.sqrt(2)
        return cls(mean_ranks, p_value, float(quantile * np.sqrt(k * (k + 1) / (6 * n))))


def mean_rank(by_method: Sequence[Values], metrics: Mapping[str, Metric]) -> Array:
    """The mean rank of each method over the metrics, called MR in the literature."""
    signed = [
        [values[name] * (1 if metric.higher_is_better else -1) for values in by_method]
        for name, metric in metrics.items()
    ]
    found: Array = ranks(np.array(signed)).mean(axis=0)
    return found
