"""Many reports: weights, cosines, conflicts and losses over steps, as arrays and as a plot."""

from __future__ import annotations

import base64
import io
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gradbalance.jsonl import read_rows
from gradbalance.numerics.array import Array
from gradbalance.plot import Panel, draw, saved
from gradbalance.policy import Scale
from gradbalance.recording import as_record, as_reports
from gradbalance.replay.replay import Replay
from gradbalance.replay.replaying import replay
from gradbalance.report import Report
from gradbalance.solvers import Solver

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class History:
    """Reports of one run in the order of its steps; a notebook shows the plot.

    Args:
        max_reports: keep only so many in memory, the latest; None keeps all.
        path: a new file, its folder is made: each report that is appended is written as one line
            of JSON, for `pandas.read_json(path, lines=True)` or `History.read`: its step, counted
            from 0, solver, status, resolution and the finite floats of `Report.as_dict`. A history
            that was copied or pickled goes on in the same file.

    Raises:
        ValueError: `max_reports` is less than 1.
        FileExistsError: there is a file at `path`; each run, and each process, has its own.

    Example:
        >>> import torch, gradbalance as gb
        >>> x = torch.tensor([1.0, 1.0], requires_grad=True)
        >>> balancer, history = gb.Balancer(gb.MGDA()), gb.History()
        >>> for _ in range(3):
        ...     history.append(balancer.backward([(x**2).sum(), ((x - 3) ** 2).sum()]))
        >>> history.weights.shape
        (3, 2)
    """

    def __init__(
        self, *, max_reports: int | None = None, path: str | PathLike[str] | None = None
    ) -> None:
        if max_reports is not None and max_reports < 1:
            raise ValueError(f"max_reports must be at least 1, or None; found {max_reports}")
        self._reports: deque[Report] = deque(maxlen=max_reports)
        self._num_appended = 0
        self._path = None if path is None else Path(path).absolute()
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._path.touch(exist_ok=False)
            except FileExistsError:
                raise FileExistsError(
                    f"path: {self._path} is of another run; name a new file, or delete that one"
                ) from None

    @classmethod
    def read(cls, path: str | PathLike[str]) -> History:
        """The history of a run from the file that `History(path=path)` wrote.

        Gramians come from the norms and cosines in it, to rounding. What a file lacks: the solver's
        iterations, losses that were not finite (their tasks count as absent), and why else a task
        was left out. The new history writes to no file. A last line that a crash cut off is left
        out.

        Args:
            path: the file.

        Raises:
            ValueError: it is empty or of another kind, or groups of parameters were balanced.
            FileNotFoundError: there is no such file.
        """
        history = cls()
        for report in as_reports(read_rows(path)):
            history.append(report)
        return history

    def append(self, report: Report) -> None:
        """Add the report of the next step.

        Raises:
            ValueError: the report is of other tasks than those before.
        """
        if self._reports and report.names != self.names:
            raise ValueError(
                f"a history is of one run: found tasks {report.names} after {self.names}"
            )
        if self._path is not None:
            record = as_record(report, self._num_appended)
            with self._path.open("a") as file:  # closed each time: nothing is lost in a crash
                file.write(json.dumps(record, allow_nan=False) + "\n")
        self._reports.append(report)
        self._num_appended += 1

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
        """[steps, T] the weights; NaN where there are groups, see `group_weights`."""
        return np.array([report.weights for report in self._reports])

    @property
    def group_weights(self) -> dict[str, Array]:
        """[steps, T] the weights by group, NaN where no loss reached it; empty without groups."""
        unknown = np.full(len(self.names), np.nan)
        return {
            group: np.array(
                [r.groups[group].weights if group in r.groups else unknown for r in self._reports]
            )
            for group in dict.fromkeys(group for report in self._reports for group in report.groups)
        }

    @property
    def cosines(self) -> Array:
        """[steps, T, T] the cosines, NaN where they were not measured."""
        unknown = np.full((len(self.names), len(self.names)), np.nan)
        return np.array([unknown if r.cosines is None else r.cosines for r in self._reports])

    @property
    def num_conflicts(self) -> Array:
        """[steps] how many pairs of tasks conflicted, NaN where it was not measured."""
        return np.array([np.nan if r.gram is None else len(r.conflicts) for r in self._reports])

    def replay(
        self,
        solvers: Sequence[Solver] | Mapping[str, Solver],
        *,
        scale: Scale | None = None,
        epoch_steps: int | None = None,
        group: str | None = None,
    ) -> Replay:
        """What other solvers would have done with the Gramians of this run; no model is needed.

        Each solver goes through the recorded steps in order, as a `Balancer` with its default
        options would take them; what it remembers, it learns on the way. It is what it would have
        done at the places where this run was: with it, the run would have gone elsewhere.

        The copies of the solvers start with what the solvers remember now, so pass new ones. A
        task whose loss or gradient was not finite is left out of its step. `FAMO` cannot be
        replayed, for it needs the losses after each step; the table says so.

        Args:
            solvers: in a sequence, or by the names that the table shows.
            scale: of the weights, as of a `Balancer`: "sum" makes the weights of different solvers
                comparable.
            epoch_steps: how many steps an epoch has, for `DWA`.
            group: the group of parameters to look at, where each was balanced for itself.

        Raises:
            ValueError: there are no reports, or none has a Gramian; an argument cannot be used.
        """
        if not self._reports:
            raise ValueError("there is nothing to replay; append reports first")
        groups = list(self.group_weights)
        if (group is None) == bool(groups) or (group is not None and group not in groups):
            kind = f"has the groups {groups}" if groups else "has no groups of parameters"
            raise ValueError(f"group must name one group of the run; it {kind}; found {group!r}")
        reports = [r if group is None else r.groups.get(group) for r in self._reports]
        return replay(reports, self._steps, solvers, scale=scale, epoch_steps=epoch_steps)

    @property
    def _steps(self) -> Array:
        """[steps] their numbers."""
        return np.arange(self._num_appended - len(self), self._num_appended, dtype=np.float64)

    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """Draw losses, weights, cosines and conflicts over steps, smoothed to 50 points a line.

        Of more than 8 tasks or pairs, a panel shows the range, the middle half and the median, and
        the two that are highest (red) and lowest (blue) on average. Losses and weights have a log
        axis where all are positive and spread over more than 1.5 decades; what was absent is left
        out, and each group has its weights in a panel of its own.

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
        first, second = np.triu_indices(len(self.names), k=1)
        pairs = [f"{self.names[i]} · {self.names[j]}" for i, j in zip(first, second, strict=True)]
        absent = np.isnan(self.losses)
        of_groups = {f"weight/{group}": values for group, values in self.group_weights.items()}
        panels = [Panel("loss", self.losses, self.names, log=True)]
        for title, values in (of_groups or {"weight": self.weights}).items():
            took_part = np.where(absent, np.nan, values)
            panels.append(Panel(title, took_part, self.names, log=True))
        panels.append(Panel("cosine of gradients", self.cosines[:, first, second], pairs))
        title = f"conflicting pairs of {len(pairs)}"
        panels.append(Panel(title, self.num_conflicts[:, None], [""]))
        return saved(draw(self._steps, panels), path)

    def _repr_html_(self) -> str:
        try:
            figure = self.plot()
        except (ValueError, ImportError) as error:
            return f"<p>History: {escape(str(error))}</p>"
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=100)
        data = base64.b64encode(picture.getvalue()).decode()
        return f'<img alt="History" style="max-width: 100%" src="data:image/png;base64,{data}">'
