"""The report of one step: losses, weights, Gramian, conflicts, certificate."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from gradbalance.numerics import Status
from gradbalance.numerics.array import Array
from gradbalance.table import as_html, as_text


@dataclass(frozen=True, eq=False)
class Report:
    r"""The losses, weights and gradient statistics of one step; prints as a small table.

    .. math:: G = J J^\top, \qquad \cos_{ij} = \frac{G_{ij}}{\sqrt{G_{ii} G_{jj}}}, \qquad
        \langle g_i, d \rangle = (G w)_i

    with g_i the rows of the Jacobian J [T, P], w the weights and d = Jᵀw the direction.
    `Balancer.backward` and `Balancer.measure` return a report. Arrays are float64, in the order of
    `names` (T tasks). Gradients have the unit of a loss divided by that of a parameter. A task that
    took no part has the weight 0, and NaN for whatever was not measured.

    Attributes:
        names: the tasks.
        losses: [T] the losses.
        weights: [T] the weights as applied to the raw gradients (or to the losses; see the
            attribute `weighs` of the solver).
        gram: [T, T] the inner products of the gradients; None if they were not measured, because
            the source does not measure them, or the step reused weights or was skipped.
        solver: the name of the method, for example "UPGrad" or "Bounded(MGDA)".
        status: see `Solution.status`; None if no task took part.
        num_steps: the number of iterations of the solver.
        certificate: see `Solution.certificate`.
        left_out: by task, why it was left out of solving: "absent", "zero gradient", "zero loss" or
            "not finite".
        groups: the report of each group by name, if groups of parameters are balanced separately.
            This report then covers all parameters together, and its weights are NaN.
        resolution: how precisely directions were known, see `Problem`; 0 without a Gramian.
        measures_gramian: whether the source measures the Gramian at steps that are solved.

    Example:
        >>> import torch, gradbalance as gb
        >>> x = torch.tensor([1.0, 1.0], requires_grad=True)
        >>> losses = {"near": (x**2).sum(), "far": (x[0] - 3) ** 2}
        >>> report = gb.Balancer(gb.MGDA()).measure(losses)
        >>> print(report)
        MGDA: converged, 1 conflict
        task  loss  weight  |gradient|  descent      cosines
        near     2     0.6        2.83      1.6      · -0.71
        far      4     0.4           4      1.6  -0.71     ·
        >>> report.as_dict("train/")["train/loss/far"]
        4.0
    """

    names: tuple[str, ...]
    losses: Array
    weights: Array
    gram: Array | None
    solver: str
    status: Status | None
    num_steps: int = 0
    certificate: float | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, "Report"] = field(default_factory=dict)
    resolution: float = 0.0
    measures_gramian: bool = False

    @property
    def norms(self) -> Array | None:
        """[T] the gradient norms ‖g_i‖; None without a Gramian."""
        return None if self.gram is None else np.sqrt(np.maximum(np.diagonal(self.gram), 0.0))

    @property
    def cosines(self) -> Array | None:
        """[T, T] the gradients' cosines (0 for a zero gradient); None without a Gramian."""
        if self.gram is None or self.norms is None:
            return None
        scale: Array = np.where(self.norms == 0, 1.0, self.norms)
        cosines: Array = self.gram / scale[:, None] / scale
        return cosines

    @property
    def descent(self) -> Array | None:
        """[T] ⟨g_i, d⟩, each loss's first-order decrease per unit step; None without a Gramian."""
        if self.groups:
            parts = [part for r in self.groups.values() if (part := r.descent) is not None]
            return sum(parts[1:], parts[0]) if parts else None
        return None if self.gram is None else self._known(self.gram) @ self.weights

    @property
    def conflicts(self) -> tuple[tuple[str, str], ...]:
        """The pairs of tasks whose gradients have a negative inner product."""
        if self.gram is None:
            return ()
        rows, columns = np.nonzero(np.triu(self.gram < 0, k=1))
        return tuple((self.names[i], self.names[j]) for i, j in zip(rows, columns, strict=True))

    def _known(self, gram: Array) -> Array:
        """The Gramian with zeros in the columns of tasks that were not measured."""
        known = np.where(np.isnan(gram), 0.0, gram)
        known[np.isnan(np.diagonal(gram))] = np.nan
        return known

    def as_dict(self, prefix: str = "") -> dict[str, float]:
        """Return all numbers as floats under flat names such as "weight/depth", for any logger.

        The names are the same at every step of a run, as loggers require. Values that were not
        measured are NaN: losses of absent tasks, and gradients at a step that reused weights or was
        skipped. "status_code" is the status as a number, its `severity`: 0 stationary, 1 reused,
        2 converged, 3 step limit, 4 ill-posed, 5 ascent, 6 skipped; NaN if no task took part.

        Args:
            prefix: text in front of every name: "train/" gives "train/weight/depth".

        Returns:
            The numbers by name.
        """
        num_tasks = len(self.names)
        entries = {f"loss/{name}": loss for name, loss in zip(self.names, self.losses, strict=True)}
        for group, report in self.groups.items() or [("", self)]:
            start = f"weight/{group}/" if group else "weight/"
            entries |= zip((start + name for name in report.names), report.weights, strict=True)
        if self.measures_gramian or self.gram is not None:
            unknown = np.full((num_tasks, num_tasks), np.nan)
            cosines = unknown if self.cosines is None else self.cosines
            for kind, values in (("norm", self.norms), ("descent", self.descent)):
                known = unknown[0] if values is None else values
                entries |= zip((f"{kind}/{name}" for name in self.names), known, strict=True)
            for i, first in enumerate(self.names):
                for j in range(i + 1, num_tasks):
                    entries[f"cosine/{first}/{self.names[j]}"] = cosines[i, j]
            entries["num_conflicts"] = np.nan if self.gram is None else len(self.conflicts)
        entries["certificate"] = np.nan if self.certificate is None else self.certificate
        entries["status_code"] = np.nan if self.status is None else self.status.severity
        return {prefix + key: float(value) for key, value in entries.items()}

    def __str__(self) -> str:
        return as_text(self._headline(), self._rows())

    def _repr_html_(self) -> str:
        return as_html(self._headline(), self._rows())

    def _rows(self) -> list[list[str]]:
        """The cells of the table, header row first."""
        of_groups = {f"weight/{group}": report.weights for group, report in self.groups.items()}
        columns = {"loss": self.losses, **(of_groups or {"weight": self.weights})}
        if self.norms is not None and self.descent is not None:
            columns |= {"|gradient|": self.norms, "descent": self.descent}
        numbers = zip(*columns.values(), strict=True)
        rows = [[k, *(f"{v:.3g}" for v in row)] for k, row in zip(self.names, numbers, strict=True)]
        header = ["task", *columns]
        if self.cosines is not None and len(self.names) > 1:
            header.append("cosines")
            for index, row in enumerate(rows):
                texts = [f"{value:5.2f}" for value in self.cosines[index]]
                texts[index] = "    ·"
                row.append(" ".join(texts))
        if self.left_out:
            header.append("")
            for row in rows:
                row.append(f"({self.left_out[row[0]]})" if row[0] in self.left_out else "")
        return [header, *rows]

    def _headline(self) -> str:
        parts = ["no task took part" if self.status is None else self.status.value]
        if self.status is not None and self.status.advice:
            parts[0] += f" ({self.status.advice})"
        if self.gram is not None:
            count = len(self.conflicts)
            parts.append(f"{count} conflict{'' if count == 1 else 's'}")
        return f"{self.solver}: {', '.join(parts)}"


def join_groups(reports: Mapping[str, Report]) -> Report:
    """Join the reports of a step's groups: Gramians add up, and the worst status counts.

    Args:
        reports: the reports by group, at least one, all of the same losses.
    """
    parts = list(reports.values())
    grams = [report.gram for report in parts if report.gram is not None]
    certificates = [r.certificate for r in parts if r.certificate is not None]
    worst = max(parts, key=lambda r: -1 if r.status is None else r.status.severity)
    zero_everywhere = set.intersection(*(set(report.left_out) for report in parts))
    return replace(
        parts[0],
        weights=np.full(len(parts[0].names), np.nan),
        gram=sum(grams[1:], grams[0]) if grams else None,
        status=worst.status,
        num_steps=sum(report.num_steps for report in parts),
        certificate=max(certificates, default=None),
        left_out={k: v for k, v in parts[0].left_out.items() if k in zero_everywhere},
        groups=dict(reports),
    )
