"""The result of a replay: what other solvers would have done at the steps of a recorded run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from gradbalance.numerics import Status
from gradbalance.numerics.array import Array
from gradbalance.plot import Panel, draw, saved
from gradbalance.table import as_html, as_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TASKS = 8  # with more tasks, the table and the plot omit the weights


@dataclass(frozen=True, eq=False)
class Replay:
    r"""What each solver would have done at every step of a recorded run; prints as a table.

    .. math:: d = J^\top w, \qquad
        c_i = \frac{\langle g_i, d \rangle}{\|g_i\| \|d\|}, \qquad
        \cos(d, s) = \frac{\langle d, s \rangle}{\|d\| \|s\|}, \quad s = \sum_i g_i

    with g_i the rows of J [T, P] (the recorded gradients), w the weights of the solver, d its
    direction, and s the gradient of the plain sum of the losses. All of these are computed from the
    recorded Gramians, and have no units. The smallest c_i, that of the worst-off task, says how
    well the step serves every task. If it is below 0 (by more than rounding, 1e-6), the loss of
    that task would rise, to first order.

    `History.replay` returns this. It says what each solver would have done at the points of this
    run. With another solver, the run would have taken another path, so a replay does not say which
    solver trains best.

    Most attributes map the name of a solver to a float64 array; T is the number of tasks. Values
    are NaN at steps that have no Gramian (the weights were reused, or the step skipped), or that
    the solver cannot solve. If the gradients cancel (status "stationary"), there is no direction,
    and everything except the weights is NaN.

    Attributes:
        names: the names of the tasks.
        steps: [steps] the step numbers in the run.
        weights: by solver, [steps, T] the weights; NaN for absent tasks.
        worst_cosine: by solver, [steps] the smallest c_i of the tasks that were present and have a
            nonzero gradient.
        rises: by solver, [steps] 1 if the loss of some task would rise, else 0.
        cosine_with_sum: by solver, [steps] cos(d, s).
        length: by solver, [steps] ‖d‖/‖s‖.
        status: by solver, the status at each step; None at steps that are NaN.
        num_measured: the number of steps with a Gramian.
        remarks: by solver, why further steps are NaN.

    Example:
        >>> import torch, gradbalance as gb
        >>> x = torch.tensor([1.0, 1.0], requires_grad=True)
        >>> balancer, history = gb.Balancer(gb.MGDA()), gb.History()
        >>> history.append(balancer.backward({"near": (x**2).sum(), "far": (x[0] - 4) ** 2}))
        >>> print(history.replay([gb.Uniform(), gb.UPGrad(), gb.FAMO()], scale="sum"))
        1 step with a Gramian, of 1; what each solver would have done there:
        solver   weight/near  weight/far  a loss rises  worst cosine  cosine with sum  length
        Uniform            1           1         100 %         -0.32             1.00       1
        UPGrad           1.3       0.696           0 %          0.24             0.84    0.68
        FAMO               -           -             -             -                -       -
        FAMO: needs the losses after each step, which a recording lacks
    """

    names: tuple[str, ...]
    steps: Array
    weights: Mapping[str, Array]
    worst_cosine: Mapping[str, Array]
    rises: Mapping[str, Array]
    cosine_with_sum: Mapping[str, Array]
    length: Mapping[str, Array]
    status: Mapping[str, tuple[Status | None, ...]]
    num_measured: int
    remarks: Mapping[str, str] = field(default_factory=dict)

    @property
    def solvers(self) -> tuple[str, ...]:
        """The names of the solvers."""
        return tuple(self.weights)

    def as_dict(self, prefix: str = "") -> dict[str, float]:
        """Return the means over the steps as floats, for any logger; NaN values are left out.

        Names are such as "UPGrad/rises" and "UPGrad/weight/depth".

        Args:
            prefix: text in front of every name.

        Returns:
            The numbers by name.
        """
        entries: dict[str, float] = {}
        for solver in self.solvers:
            for index, task in enumerate(self.names):
                entries[f"{solver}/weight/{task}"] = _mean(self.weights[solver][:, index])
            for title in ("rises", "worst_cosine", "cosine_with_sum", "length"):
                entries[f"{solver}/{title}"] = _mean(getattr(self, title)[solver])
        return {prefix + key: value for key, value in entries.items() if not np.isnan(value)}

    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """Draw one line per solver over the steps, smoothed to 50 points per line.

        With more than 8 solvers, a panel shows their distribution and the extreme ones. With more
        than 8 tasks, the weights are omitted.

        Args:
            path: where to save the figure; the suffix determines the format. None does not save.

        Returns:
            The figure, independent of any global plotting state.

        Raises:
            ImportError: matplotlib is missing; `pip install gradbalance[plots]`.
        """

        def panel(title: str, lines: Sequence[Array], *, log: bool = False) -> Panel:
            return Panel(title, np.stack(lines, axis=1), self.solvers, log)

        panels = [
            panel("cosine of the worst-off task", list(self.worst_cosine.values())),
            panel("share of steps in which a loss rises", list(self.rises.values())),
            panel("cosine with the plain sum", list(self.cosine_with_sum.values())),
            panel("length, relative to the plain sum", list(self.length.values()), log=True),
        ]
        for index, task in enumerate(self.names if len(self.names) <= _TASKS else ()):
            lines = [of_solver[:, index] for of_solver in self.weights.values()]
            panels.append(panel(f"weight of {task}", lines, log=True))
        return saved(draw(self.steps, panels), path)

    def __str__(self) -> str:
        remarks = [f"{name}: {remark}" for name, remark in self.remarks.items()]
        return "\n".join([as_text(self._headline(), self._rows()), *remarks])

    def _repr_html_(self) -> str:
        remarks = [f"{name}: {remark}" for name, remark in self.remarks.items()]
        return as_html(". ".join([self._headline(), *remarks]), self._rows())

    def _headline(self) -> str:
        steps = "step" if self.num_measured == 1 else "steps"
        return (
            f"{self.num_measured} {steps} with a Gramian, of {len(self.steps)}; what each solver "
            "would have done there:"
        )

    def _rows(self) -> list[list[str]]:
        """The cells of the table, header row first."""
        shown = self.names if len(self.names) <= _TASKS else ()
        header = ["solver", *(f"weight/{task}" for task in shown)]
        rows = [[*header, "a loss rises", "worst cosine", "cosine with sum", "length"]]
        for solver in self.solvers:
            row = [solver]
            row += [_cell(self.weights[solver][:, i], ".3g") for i in range(len(shown))]
            row += [_cell(self.rises[solver], ".0%").replace("%", " %")]
            row += [_cell(self.worst_cosine[solver], ".2f")]
            row += [_cell(self.cosine_with_sum[solver], ".2f")]
            row += [_cell(self.length[solver], ".3g")]
            rows.append(row)
        return rows


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _cell(values: Array, form: str) -> str:
    mean = _mean(values)
    return "-" if np.isnan(mean) else f"{mean:{form}}"
