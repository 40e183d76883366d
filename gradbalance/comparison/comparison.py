"""The comparison of several methods: a table of metrics, learning curves and a Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Literal

import numpy as np

from gradbalance.comparison.curves import Curve, draw_curves, draw_pareto
from gradbalance.comparison.difference import Difference, difference, sample_sd
from gradbalance.numerics.array import Array
from gradbalance.plot import saved
from gradbalance.table import as_html, as_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Better = Literal["higher", "lower"]
Value = Literal["last", "best"]
Path = str | PathLike[str]


@dataclass(frozen=True, eq=False)
class Comparison:
    r"""The metrics of several methods, as returned by `compare`; prints as a table.

    .. math:: \Delta_m = \frac{100}{M} \sum_{k=1}^{M} \pm \frac{m_k - b_k}{|b_k|}

    with M the number of metrics, m_k the mean of metric k over the seeds, b_k that of the baseline,
    and the sign chosen so that positive is better. Differences are in the units of the metrics.

    Attributes:
        values: by method and metric, an array [seeds] with the last or best value of each run.
        better: by metric, whether "higher" or "lower" is better.
        baseline: the method that the others are compared with, or None.
        value: which value of each run is used, "last" or "best".
        curves: by method and metric, for each run its steps and its values, both [points].

    Example:
        >>> import gradbalance as gb, json, pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> def run(name, *accuracies):
        ...     lines = [json.dumps({"accuracy": accuracy}) for accuracy in accuracies]
        ...     (folder / name).write_text("\n".join(lines))
        ...     return folder / name
        >>> comparison = gb.compare(
        ...     {
        ...         "sum": [run("sum-0.jsonl", 50.0, 70.0), run("sum-1.jsonl", 50.0, 74.0)],
        ...         "UPGrad": [run("up-0.jsonl", 50.0, 75.0), run("up-1.jsonl", 50.0, 77.0)],
        ...     },
        ...     better={"accuracy": "higher"},
        ...     baseline="sum",
        ... )
        >>> print(comparison)
        last values, mean ± sd over the seeds, and the difference to sum with its 95 % interval:
        method  metric      seeds  mean ± sd      difference   Δm %
        sum     accuracy ↑      2   72 ± 2.8
        UPGrad  accuracy ↑      2   76 ± 1.4  +4 [-8.7, +17]  +5.56
    """

    values: Mapping[str, Mapping[str, Array]]
    better: Mapping[str, Better]
    baseline: str | None
    value: Value
    curves: Mapping[str, Mapping[str, Sequence[Curve]]]

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the methods."""
        return tuple(self.values)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics."""
        return tuple(self.better)

    def difference(self, method: str, metric: str) -> Difference:
        r"""Compute the difference of a method's mean to the baseline's, with a 95 % interval.

        .. math:: \bar\delta \pm t_{0.975, n-1} \frac{s_\delta}{\sqrt n}, \qquad
            \delta_k = m_k - b_k

        with m_k and b_k the values of the k-th run of the method and of the baseline, for n pairs
        of runs (Student's interval). If the methods have different numbers of runs, they are not
        paired, and the interval is Welch's. The result has the attributes `mean`, `low`, `high`
        (the ends of the interval) and `paired`.

        Args:
            method: the name of the method.
            metric: the name of the metric.

        Raises:
            ValueError: there is no baseline, no such method or no such metric.
        """
        if self.baseline is None:
            raise ValueError('a difference needs compare(..., baseline="...")')
        return difference(self._of(method, metric), self._of(self.baseline, metric))

    def delta_m(self, method: str) -> float:
        """Compute Δm: the improvement over the baseline in percent, averaged over the metrics.

        Args:
            method: the name of the method.

        Returns:
            Δm as defined in the class; NaN if a metric of the baseline is 0, or one is not finite.

        Raises:
            ValueError: there is no baseline or no such method.
        """
        if self.baseline is None:
            raise ValueError('Δm needs compare(..., baseline="...")')
        changes = []
        for metric in self.metrics:
            base = float(self._of(self.baseline, metric).mean())
            change = float(self._of(method, metric).mean()) - base
            changes.append(self._sign(metric) * change / abs(base) if base else np.nan)
        return 100 * float(np.mean(changes))

    def front(self, x: str, y: str) -> tuple[str, ...]:
        """Find the methods on the Pareto front of two metrics, by their means.

        A method is on the front if no other method is at least as good in both metrics and better
        in one.

        Args:
            x: a metric.
            y: another metric.

        Returns:
            The names of the methods on the front.

        Raises:
            ValueError: there is no such metric.
        """
        means = {
            method: np.array([self._sign(k) * self._of(method, k).mean() for k in (x, y)])
            for method in self.methods
        }
        finite = {method: mean for method, mean in means.items() if np.isfinite(mean).all()}
        return tuple(
            method
            for method, mean in finite.items()
            if not any((o >= mean).all() and (o > mean).any() for o in finite.values())
        )

    def plot(self, path: Path | None = None) -> Figure:
        """Draw the learning curves: the mean over the seeds, with a band of one sd around it.

        Curves cover the range of steps that all runs of a method have, interpolated where a run has
        no value, and smoothed to 50 points per line. Runs without a common range are drawn one by
        one. A metric has a log axis if it is positive and spans more than 1.5 decades.

        Args:
            path: where to save the figure; the suffix determines the format. None does not save.

        Returns:
            The figure, independent of any global plotting state.

        Raises:
            ImportError: matplotlib is missing; `pip install gradbalance[plots]`.
        """
        panels = {
            self._label(k): {method: self.curves[method][k] for method in self.methods}
            for k in self.metrics
        }
        return saved(draw_curves(panels), path)

    def pareto(self, x: str, y: str, path: Path | None = None) -> Figure:
        """Draw two metrics against each other: faint dots are runs, large dots are their means.

        Error bars are one sd over the seeds in each direction. The methods on the Pareto front have
        a ring, and are connected by a dashed line. A method whose mean is not finite is left out.

        Args:
            x: the metric of the horizontal axis.
            y: the metric of the vertical axis.
            path: where to save the figure; the suffix determines the format. None does not save.

        Returns:
            The figure, independent of any global plotting state.

        Raises:
            ValueError: there is no such metric.
            ImportError: matplotlib is missing; `pip install gradbalance[plots]`.
        """
        runs = {m: np.stack([self._of(m, x), self._of(m, y)], axis=1) for m in self.methods}
        labels = (f"{x} ({self.better[x]} is better)", f"{y} ({self.better[y]} is better)")
        return saved(draw_pareto(runs, self.front(x, y), labels), path)

    def as_dict(self, prefix: str = "") -> dict[str, float]:
        """Return all numbers as floats, for any logger; values that are NaN are left out.

        Names are such as "UPGrad/accuracy/mean", "UPGrad/accuracy/sd" and "UPGrad/delta_m".

        Args:
            prefix: text in front of every name.

        Returns:
            The numbers by name.
        """
        entries: dict[str, float] = {}
        for method in self.methods:
            for metric in self.metrics:
                values = self._of(method, metric)
                entries[f"{method}/{metric}/mean"] = float(values.mean())
                entries[f"{method}/{metric}/sd"] = sample_sd(values)
                if self.baseline is not None:
                    entries[f"{method}/{metric}/change"] = self.difference(method, metric).mean
            if self.baseline is not None:
                entries[f"{method}/delta_m"] = self.delta_m(method)
        return {prefix + key: value for key, value in entries.items() if not np.isnan(value)}

    def __str__(self) -> str:
        return "\n".join([as_text(f"{self._headline()}:", self._rows()), *self._notes()])

    def _repr_html_(self) -> str:
        return as_html(". ".join([self._headline(), *self._notes()]), self._rows())

    def _of(self, method: str, metric: str) -> Array:
        if method not in self.values:
            raise ValueError(f"method must be one of {list(self.values)}; found {method!r}")
        if metric not in self.better:
            raise ValueError(f"metric must be one of {list(self.better)}; found {metric!r}")
        return self.values[method][metric]

    def _sign(self, metric: str) -> int:
        return 1 if self.better[metric] == "higher" else -1

    def _label(self, metric: str) -> str:
        return f"{metric} {'↑' if self.better[metric] == 'higher' else '↓'}"

    def _headline(self) -> str:
        base = f", and the difference to {self.baseline} with its 95 % interval"
        return f"{self.value} values, mean ± sd over the seeds{base if self.baseline else ''}"

    def _rows(self) -> list[list[str]]:
        """The cells of the table, header row first."""
        header = ["method", "metric", "seeds", "mean ± sd"]
        rows = [header + (["difference", "Δm %"] if self.baseline else [])]
        width = max(len(self._label(metric)) for metric in self.metrics)
        for method in self.methods:
            for index, metric in enumerate(self.metrics):
                values = self._of(method, metric)
                row = [method if index == 0 else "", self._label(metric).ljust(width)]
                row += [str(len(values)), _spread(values)]
                if self.baseline:
                    own = method == self.baseline
                    row.append("" if own else str(self.difference(method, metric)))
                    row.append("" if own or index else _percent(self.delta_m(method)))
                rows.append(row)
        rows[0][1] = rows[0][1].ljust(width)
        return rows

    def _notes(self) -> list[str]:
        if self.baseline is None:
            return []
        counts = {method: len(self._of(method, self.metrics[0])) for method in self.methods}
        unpaired = [m for m, count in counts.items() if count != counts[self.baseline]]
        zeros = [k for k in self.metrics if self._of(self.baseline, k).mean() == 0]
        notes = []
        if unpaired:
            notes.append(
                f"* not paired, for {self.baseline} has {counts[self.baseline]} runs: "
                + ", ".join(f"{method} {counts[method]}" for method in unpaired)
            )
        if zeros:
            notes.append(f"no Δm: {', '.join(zeros)} of {self.baseline} is 0")
        return notes


def _spread(values: Array) -> str:
    sd = f" ± {sample_sd(values):.2g}" if len(values) > 1 and np.isfinite(values).all() else ""
    return f"{values.mean():.4g}{sd}"


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:+.3g}"
