"""What one step saw and did: losses, weights, Gramian, conflicts, certificate."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from gradbalance.numerics import Status
from gradbalance.numerics.array import Array
from gradbalance.table import as_html, as_text


@dataclass(frozen=True, eq=False)
class Report:
    r"""What `Balancer.backward` and `Balancer.measure` return; shows as a small table.

    .. math:: G = J J^\top, \qquad \cos_{ij} = \frac{G_{ij}}{\sqrt{G_{ii} G_{jj}}}, \qquad
        \langle g_i, d \rangle = (G w)_i

    Arrays are float64, in the order of `names` (T tasks); gradients are in the units of a loss
    over a parameter. A task that took no part has weight 0 and NaN where nothing was measured.

    Attributes:
        names: the tasks.
        losses: [T].
        weights: [T], as they acted on the raw gradients (or losses, see the solver's `weighs`).
        gram: [T, T] inner products of the gradients, or None where they were not measured: by a
            source that does not, or at a step that reused weights or was skipped.
        solver: the name of the method, as in "UPGrad" or "Bounded(MGDA)".
        status: see `Solution.status`; None where no task took part.
        num_steps: the solver's iterations.
        certificate: see `Solution.certificate`.
        left_out: why a task was left out of the solving: "absent", "zero gradient", "zero loss" or
            "not finite".
        groups: where groups of parameters are balanced each for itself, the report of each by its
            name; this one is then of all parameters together, and its weights are NaN.
        resolution: how exactly directions were known, see `Problem`; 0 without a Gramian.
        measures_gramian: whether the source measures the Gramian, at the steps that are solved.

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
        """[T] the norms ‖g_i‖ of the gradients, or None without a Gramian."""
        return None if self.gram is None else np.sqrt(np.maximum(np.diagonal(self.gram), 0.0))

    @property
    def cosines(self) -> Array | None:
        """[T, T] the cosines between the gradients (0 with a zero gradient), or None."""
        if self.gram is None or self.norms is None:
            return None
        scale: Array = np.where(self.norms == 0, 1.0, self.norms)
        cosines: Array = self.gram / scale[:, None] / scale
        return cosines

    @property
    def descent(self) -> Array | None:
        """[T] ⟨g_i, d⟩, the first-order decrease of each loss per unit step, or None."""
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
        """The Gramian with zeros where a task without a weight was not measured."""
        known = np.where(np.isnan(gram), 0.0, gram)
        known[np.isnan(np.diagonal(gram))] = np.nan
        return known

    def as_dict(self, prefix: str = "") -> dict[str, float]:
        """Floats under flat names such as "weight/depth", for any logger.

        The names are the same at every step of a run, as loggers want them; what was not measured
        is NaN: losses of absent tasks, and gradients at a step that reused weights or was skipped.
        "status_code" is the status as a number, its `severity`: 0 stationary, 1 reused,
        2 converged, 3 step limit, 4 ill-posed, 5 ascent, 6 skipped; NaN where no task took part.

        Args:
            prefix: stands in front of every name: "train/" gives "train/weight/depth".
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
        """The table's cells, its heading first."""
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
    """The report of a step from those of its groups: Gramians add up, and the worst status counts.

    Args:
        reports: by group, at least one, all of the same losses.
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
