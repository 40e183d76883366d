"""Many reports: weights, cosines, conflicts and losses over steps, as arrays and as a plot."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from gradbalance.numerics.array import Array
from gradbalance.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SMOOTHING = 50  # steps drawn at most as a line's points, each the mean of its share


class History:
    """Reports of one run in the order of its steps.

    Example:
        >>> import torch, gradbalance as gb
        >>> x = torch.tensor([1.0, 1.0], requires_grad=True)
        >>> balancer, history = gb.Balancer(gb.MGDA()), gb.History()
        >>> for _ in range(3):
        ...     history.append(balancer.backward([(x**2).sum(), ((x - 3) ** 2).sum()]))
        >>> history.weights.shape
        (3, 2)
    """

    def __init__(self) -> None:
        self._reports: list[Report] = []

    def append(self, report: Report) -> None:
        """Add the report of the next step.

        Raises:
            ValueError: the report is of other tasks than those before.
        """
        if self._reports and report.names != self.names:
            raise ValueError(
                f"a history is of one run: found tasks {report.names} after {self.names}"
            )
        self._reports.append(report)

    def __len__(self) -> int:
        return len(self._reports)

    def __iter__(self) -> Iterator[Report]:
        return iter(self._reports)

    def __getitem__(self, step: int) -> Report:
        return self._reports[step]

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks; none before the first report."""
        return self._reports[0].names if self._reports else ()

    @property
    def losses(self) -> Array:
        """[steps, T] the losses, NaN where a task was absent."""
        return np.array([report.losses for report in self._reports])

    @property
    def weights(self) -> Array:
        """[steps, T] the weights."""
        return np.array([report.weights for report in self._reports])

    @property
    def cosines(self) -> Array:
        """[steps, T, T] the cosines, NaN where they were not measured."""
        unknown = np.full((len(self.names), len(self.names)), np.nan)
        return np.array([unknown if r.cosines is None else r.cosines for r in self._reports])

    @property
    def num_conflicts(self) -> Array:
        """[steps] how many pairs of tasks conflicted, NaN where it was not measured."""
        return np.array([np.nan if r.gram is None else len(r.conflicts) for r in self._reports])

    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """Draw losses, weights, cosines and conflicts over steps, smoothed to 50 points a line.

        Args:
            path: where to save the figure; its suffix gives the format.

        Returns:
            The figure, independent of any global plotting state.

        Raises:
            ValueError: there are no reports.
            ImportError: matplotlib is missing; `pip install gradbalance[plots]`.
        """
        if not self._reports:
            raise ValueError("there is nothing to plot; append reports first")
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("plots need matplotlib: pip install gradbalance[plots]") from error
        steps = _smooth(np.arange(len(self), dtype=np.float64))
        first, second = np.triu_indices(len(self.names), k=1)
        pairs = [f"{self.names[i]} · {self.names[j]}" for i, j in zip(first, second, strict=True)]
        panels = [
            ("loss", self.losses, list(self.names)),
            ("weight", self.weights, list(self.names)),
            ("cosine of gradients", self.cosines[:, first, second], pairs),
            ("conflicting pairs", self.num_conflicts[:, None], [""]),
        ]
        figure = Figure(figsize=(11, 7), layout="constrained")
        for axes, (title, values, labels) in zip(figure.subplots(2, 2).flat, panels, strict=True):
            for label, line in zip(labels, values.T, strict=True):
                axes.plot(steps, _smooth(line), label=label)
            axes.set(title=title, xlabel="step")
            axes.grid(alpha=0.3)
            if not np.isfinite(values).any():
                axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
            elif 1 < len(labels) <= 10:
                axes.legend(fontsize="small")
        if path is not None:
            figure.savefig(path, dpi=120)
        return figure


def _smooth(values: Array) -> Array:
    """Means over at most 50 equal shares of the steps; NaN only where a share has nothing else."""
    shares = np.array_split(values, min(_SMOOTHING, len(values)))
    return np.array([np.nan if np.isnan(s).all() else np.nanmean(s) for s in shares])
