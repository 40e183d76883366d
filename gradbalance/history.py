"""The reports of a run: weights, cosines, conflicts and losses over steps, as arrays and a plot."""

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
    """The reports of one run, in the order of its steps; shown as a plot in a notebook.

    Args:
        max_reports: how many reports to keep in memory, the latest ones; None keeps all.
        path: a new file to which each appended report is written as one line of JSON; its folder
            is created if needed. A line has the step, counted from 0, the solver, the status, the
            resolution and the finite floats of `Report.as_dict`. Read the file with
            `pandas.read_json(path, lines=True)` or `History.read`. A copied or unpickled history
            continues in the same file.

    Raises:
        ValueError: `max_reports` is less than 1.
        FileExistsError: there already is a file at `path`; each run and each process needs its own.

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
        """Read the history of a run from the file that `History(path=path)` wrote.

        Gramians are computed from the norms and cosines in the file, up to rounding. A file does
        not contain the solver's iterations, losses that were not finite (their tasks count as
        absent), or other reasons why a task was left out. The new history writes to no file. An
        incomplete last line, as a crash leaves it, is ignored.

        Args:
            path: the file.

        Returns:
            A new history with all reports of the file.

        Raises:
            ValueError: the file is empty or not of this kind, or is of a run that balanced groups
                of parameters.
            FileNotFoundError: there is no such file.
        """
        history = cls()
        for report in as_reports(read_rows(path)):
            history.append(report)
        return history

    def append(self, report: Report) -> None:
        """Add the report of the next step.

        Args:
            report: what `Balancer.backward` returned, or the property `report` of the Balancer.

        Raises:
            ValueError: the report has other tasks than the earlier ones.
        """
        if self._reports and report.names != self.names:
            raise ValueError(
                f"a history is of one run: found tasks {report.names} after {self.names}"
            )
        if self._path is not None:
            record = as_record(report, self._num_appended)
            with self._path.open("a") as file:  # closed each time, so that a crash loses nothing
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
        """The names of the tasks; empty before the first report."""
        return self._reports[0].names if self._reports else ()

    @property
    def losses(self) -> Array:
        """[steps, T] the losses; NaN where a task was absent."""
        return np.array([report.losses for report in self._reports])

    @property
    def weights(self) -> Array:
        """[steps, T] the weights; NaN for groups of parameters, see `group_weights`."""
        return np.array([report.weights for report in self._reports])

    @property
    def group_weights(self) -> dict[str, Array]:
        """By group, [steps, T] its weights; NaN where no loss reached it; empty without groups."""
        unknown = np.full(len(self.names), np.nan)
        return {
            group: np.array(
                [r.groups[group].weights if group in r.groups else unknown for r in self._reports]
            )
            for group in dict.fromkeys(group for report in self._reports for group in report.groups)
        }

    @property
    def cosines(self) -> Array:
        """[steps, T, T] the cosines between the gradients; NaN where they were not measured."""
        unknown = np.full((len(self.names), len(self.names)), np.nan)
        return np.array([unknown if r.cosines is None else r.cosines for r in self._reports])

    @property
    def num_conflicts(self) -> Array:
        """[steps] the number of pairs of tasks in conflict; NaN where it was not measured."""
        return np.array([np.nan if r.gram is None else len(r.conflicts) for r in self._reports])

    def replay(
        self,
        solvers: Sequence[Solver] | Mapping[str, Solver],
        *,
        scale: Scale | None = None,
        epoch_steps: int | None = None,
        group: str | None = None,
    ) -> Replay:
        """Compute what other solvers would have done with this run's Gramians; needs no model.

        Each solver solves the recorded steps in order, as in a `Balancer` with default options, and
        its state develops along the way. The result says what it would have done at the points of
        this run; had it been used for training, the run would have taken another path.

        Copies of the solvers are used, and they start with the solvers' present state, so pass new
        solvers. A task whose loss or gradient was not finite is left out of that step. `FAMO`
        cannot be replayed, because it needs the losses after each step; the table says so.

        Args:
            solvers: a sequence of solvers, or a mapping from names, for the table, to solvers.
            scale: how weights are rescaled, as in a `Balancer`: "sum" makes the weights of
                different solvers comparable.
            epoch_steps: the number of steps in an epoch, for `DWA`.
            group: the group of parameters to replay, if groups were balanced separately.

        Returns:
            The weights and directions of each solver at every recorded step.

        Raises:
            ValueError: there are no reports, none of them has a Gramian, or an argument cannot be
                used.
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
        """[steps] the step numbers of the reports."""
        return np.arange(self._num_appended - len(self), self._num_appended, dtype=np.float64)

    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """Draw losses, weights, cosines and conflicts over steps, smoothed to 50 points per line.

        With more than 8 tasks or pairs, a panel shows the range, the middle half and the median of
        them, and the two with the highest (red) and the lowest (blue) mean. Losses and weights have
        a log axis if all values are positive and span more than 1.5 decades. Absent tasks are left
        out. The weights of each group of parameters have their own panel.

        Args:
            path: where to save the figure; the suffix determines the format. None does not save.

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
