"""`Diagnosis`: statistics of a model's task gradients over many batches, as numbers and tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gradbalance.numerics.array import Array
from gradbalance.numerics.intervals import half_width, share_interval
from gradbalance.table import as_html, as_text

_MAX_PAIRS = 8  # the most rows in the table of pairs, to keep it readable


@dataclass(frozen=True, eq=False)
class Diagnosis:
    r"""The result of `gb.diagnose` on B batches with T tasks; prints as tables and a verdict.

    With g_i^a the gradient of task i on batch a, and a, b the two batches of a pair:

    .. math:: \cos_{ij} = \frac{\langle g_i^a, g_j^a \rangle}{\|g_i^a\| \|g_j^a\|}, \qquad
        c_{ij} = \frac{\langle g_i^a, g_j^b \rangle}{\|g_i^a\| \|g_j^b\|}, \qquad
        \rho_{ij} = \frac{\bar c_{ij}}{\sqrt{\bar c_{ii} \bar c_{jj}}}

    The gradients of two batches have independent noise. Therefore c_ii is the fraction of a squared
    norm that is not noise, and ρ estimates the cosine between the gradients without noise, as of an
    infinitely large batch.

    Shares are fractions between 0 and 1. Errors are half the width of a 95 % interval (Student's t
    over the pairs of batches), with Bonferroni's correction, so that the intervals of one array
    hold together. Arrays are float64, in the order of `names`.

    Attributes:
        names: the names of the tasks.
        num_batches: B, the number of batches.
        losses: [T] the mean losses.
        norms: [T] the median gradient norms.
        shares: [T] the mean share of each task in the sum of all squared gradient norms.
        cosines: [T, T] the mean cosines within a batch.
        spreads: [T, T] the standard deviations of these cosines over the batches.
        cross_cosines: [T, T] the means of c; its diagonal is `agreement`.
        cross_errors: [T, T] the errors of these means.
        conflicts: [T, T] the share of batches in which two gradients conflict: cos < 0.
        conflict_share: the share of pairs of tasks that conflict, over all batches.
        conflict_interval: the 95 % interval of `conflict_share` (Wilson's; batches count as
            independent, pairs of tasks within a batch do not).
        raised: [T] the share of batches on which a step along the gradient of the plain sum, on the
            same batch, raises the task's loss, to first order.
        raised_elsewhere: [T] the same for the step from one batch of a pair, and the loss on the
            other batch.
        sum_cosines: [T] the mean cosine between the gradient of the plain sum and that of the task
            on another batch; if it is below 0, the plain sum raises the task's loss.
        sum_errors: [T] the errors of these means.
        correlation: by compared source, the correlation of its cosines between tasks with the exact
            ones, over pairs and batches; NaN if either never changes.
        same_sign: by compared source, the share of its cosines with the sign of the exact one,
            among those whose exact value is larger than its spread; NaN if there are none.
        milliseconds: the median time of the "forward pass", of `sum(losses).backward()` ("plain
            sum"), of a balanced backward ("exact"), and of one with each compared source.
        verdict: the conclusions, one sentence each; the last sentence says what to try.

    Example:
        >>> import torch, gradbalance as gb
        >>> x = torch.tensor([1.0, 1.0], requires_grad=True)
        >>> def losses(noise):
        ...     return {"near": ((x - noise) ** 2).sum(), "far": (x[0] - 3) ** 2}
        >>> diagnosis = gb.diagnose(losses, [0.1, -0.1, 0.2, -0.2])
        >>> diagnosis.as_dict()["conflict_share"]
        1.0
    """

    names: tuple[str, ...]
    num_batches: int
    losses: Array
    norms: Array
    shares: Array
    cosines: Array
    spreads: Array
    cross_cosines: Array
    cross_errors: Array
    conflicts: Array
    conflict_share: float
    conflict_interval: tuple[float, float]
    raised: Array
    raised_elsewhere: Array
    sum_cosines: Array
    sum_errors: Array
    correlation: Mapping[str, float]
    same_sign: Mapping[str, float]
    milliseconds: Mapping[str, float]
    verdict: tuple[str, ...] = ()

    @property
    def agreement(self) -> Array:
        """[T] the mean cosine of a task's gradients on two batches; 1 without noise."""
        return np.diagonal(self.cross_cosines)

    @property
    def signal_cosines(self) -> Array:
        """[T, T] ρ, the estimated cosines without noise; NaN for tasks whose agreement may be 0."""
        clear = self.agreement > np.diagonal(self.cross_errors)
        known = np.sqrt(np.where(clear, self.agreement, np.nan))
        cosines: Array = np.clip(self.cross_cosines / known[:, None] / known, -1.0, 1.0)
        return cosines

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The pairs of tasks as indices, most frequent conflicts first."""
        i, j = np.triu_indices(len(self.names), k=1)
        order = np.lexsort((self.cosines[i, j], -self.conflicts[i, j]))
        return tuple((int(i[k]), int(j[k])) for k in order)

    def as_dict(self, prefix: str = "") -> dict[str, float]:
        """Return all numbers as floats under flat names, for any logger; NaN values are left out.

        Names are such as "share/depth" and "cosine/depth/segmentation".

        Args:
            prefix: text in front of every name.

        Returns:
            The numbers by name.
        """
        of_tasks = {"loss": self.losses, "norm": self.norms, "share": self.shares,
                    "agreement": self.agreement, "raised": self.raised,
                    "raised_elsewhere": self.raised_elsewhere,
                    "sum_cosine": self.sum_cosines}  # fmt: skip
        of_pairs = {"cosine": self.cosines, "spread": self.spreads, "conflicts": self.conflicts,
                    "cross_cosine": self.cross_cosines,
                    "signal_cosine": self.signal_cosines}  # fmt: skip
        of_sources = {"correlation": self.correlation, "same_sign": self.same_sign,
                      "milliseconds": self.milliseconds}  # fmt: skip
        low, high = self.conflict_interval
        entries = {"num_batches": float(self.num_batches), "conflict_share": self.conflict_share,
                   "conflict_share_low": low, "conflict_share_high": high}  # fmt: skip
        for key, values in of_tasks.items():
            entries |= {f"{key}/{n}": float(v) for n, v in zip(self.names, values, strict=True)}
        for key, matrix in of_pairs.items():
            for i, j in sorted(self.pairs):
                entries[f"{key}/{self.names[i]}/{self.names[j]}"] = float(matrix[i, j])
        for key, by_source in of_sources.items():
            entries |= {f"{key}/{source}": value for source, value in by_source.items()}
        return {prefix + key: value for key, value in entries.items() if not np.isnan(value)}

    def __str__(self) -> str:
        tables = [as_text(*table) for table in self._tables()]
        return "\n\n".join([*tables, "\n".join(["Verdict:", *(f"- {s}" for s in self.verdict)])])

    def _repr_html_(self) -> str:
        tables = [as_html(*table) for table in self._tables()]
        return "\n".join([*tables, as_html("Verdict", [[sentence] for sentence in self.verdict])])

    def _tables(self) -> list[tuple[str, list[list[str]]]]:
        """The headline and the rows of each table."""
        tasks = [["task", "loss", "|gradient|", "share", "agrees", "sum raises", "elsewhere"]]
        for i, name in enumerate(self.names):
            tasks.append([name, f"{self.losses[i]:.3g}", f"{self.norms[i]:.3g}",
                          percent(self.shares[i]), f"{self.agreement[i]:.2f}",
                          percent(self.raised[i]), percent(self.raised_elsewhere[i])])  # fmt: skip
        pairs = [["pair", "cosine", "spread", "without noise", "conflicts"]]
        for i, j in self.pairs[:_MAX_PAIRS]:
            pairs.append([f"{self.names[i]} · {self.names[j]}", f"{self.cosines[i, j]:.2f}",
                          f"{self.spreads[i, j]:.2f}", _number(self.signal_cosines[i, j]),
                          percent(self.conflicts[i, j])])  # fmt: skip
        sources = [["backward", "ms", "correlation", "same sign"]]
        for name, time in self.milliseconds.items():
            seen = ["", ""]
            if name in self.correlation:
                seen = [_number(self.correlation[name]), percent(self.same_sign[name])]
            sources.append([name, _number(time), *seen])
        low, high = (100 * bound for bound in self.conflict_interval)
        shown = f", {_MAX_PAIRS} of {len(self.pairs)} shown" if len(self.pairs) > _MAX_PAIRS else ""
        conflicts = f"{percent(self.conflict_share)} [{low:.0f}, {high:.0f}]{shown}"
        return [
            (f"{len(self.names)} tasks on {self.num_batches} batches", tasks),
            (f"Pairs of tasks; gradients conflict in {conflicts}", pairs),
            ("Time of one step on this model", sources),
        ]


def from_gramians(
    names: tuple[str, ...],
    losses: Array,
    grams: Array,
    compared: Mapping[str, Array],
    milliseconds: Mapping[str, float],
) -> Diagnosis:
    """Compute the diagnosis without its verdict.

    Args:
        names: the T tasks.
        losses: [2N, T] the losses of all batches, those of one pair next to each other.
        grams: [N, 2T, 2T] the Gramian of the gradients of both batches, for each pair.
        compared: by source, [2N, T, T] the cosines that it measured.
        milliseconds: see `Diagnosis`.
    """
    num, count = len(names), len(losses)
    first, second = slice(0, num), slice(num, 2 * num)

    def by_batch(of_pairs: Array) -> Array:
        """[2N, T, T] from [N, 2T, 2T]: the blocks within each batch."""
        parts = [of_pairs[:, first, first], of_pairs[:, second, second]]
        return np.stack(parts, axis=1).reshape(count, num, num)

    norms = np.sqrt(np.maximum(np.diagonal(grams, axis1=1, axis2=2), 0.0))
    scale = _nonzero(norms)
    cosines = grams / scale[:, :, None] / scale[:, None, :]
    within, between = by_batch(cosines), cosines[:, first, second]
    between = (between + between.transpose(0, 2, 1)) / 2
    gram = by_batch(grams)
    norms_of_batch = norms.reshape(count, num)
    squares = norms_of_batch**2
    i, j = np.triu_indices(num, k=1)
    conflicts = within < 0
    conflict_shares = conflicts[:, i, j].mean(axis=1)

    # [N, 2, T]: the inner product of each gradient with the plain sum of the other batch.
    elsewhere = np.stack([grams[:, first, second].sum(-1), grams[:, second, first].sum(-1)], axis=1)
    sums = np.sqrt(np.maximum(gram.sum((1, 2)), 0.0)).reshape(-1, 2)
    sum_cosines = elsewhere / scale.reshape(-1, 2, num) / _nonzero(sums[:, ::-1])[:, :, None]
    sum_cosines = sum_cosines.mean(axis=1)

    spreads = within.std(axis=0, ddof=1)
    exact = within[:, i, j]
    clear = np.abs(exact) > spreads[i, j]
    seen = {source: values[:, i, j] for source, values in compared.items()}
    return Diagnosis(
        names=names,
        num_batches=count,
        losses=losses.mean(axis=0),
        norms=np.median(norms_of_batch, axis=0),
        shares=(squares / _nonzero(squares.sum(axis=1))[:, None]).mean(axis=0),
        cosines=within.mean(axis=0),
        spreads=spreads,
        cross_cosines=between.mean(axis=0),
        cross_errors=half_width(between, num * (num + 1) // 2),
        conflicts=conflicts.mean(axis=0),
        conflict_share=float(conflict_shares.mean()),
        conflict_interval=share_interval(conflict_shares, len(i)),
        raised=(gram.sum(axis=2) < 0).mean(axis=0),
        raised_elsewhere=(elsewhere < 0).mean(axis=(0, 1)),
        sum_cosines=sum_cosines.mean(axis=0),
        sum_errors=half_width(sum_cosines, num),
        correlation={source: _correlation(exact, values) for source, values in seen.items()},
        same_sign={
            source: _mean(np.sign(exact[clear]) == np.sign(values[clear]))
            for source, values in seen.items()
        },
        milliseconds=dict(milliseconds),
    )


def percent(share: float) -> str:
    """A share in percent; only exact values are written as 0 % or 100 %."""
    if np.isnan(share):
        return "–"
    value = 100 * share
    if 0 < value < 0.05 or 99.95 < value < 100:
        return "<0.1 %" if value < 1 else ">99.9 %"
    return f"{value:.1f} %" if 0 < value < 1 or 99 < value < 100 else f"{value:.0f} %"


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}"


def _nonzero(values: Array) -> Array:
    divisors: Array = np.where(values == 0, 1.0, values)
    return divisors


def _mean(found: Array) -> float:
    return float(found.mean()) if found.size else float("nan")


def _correlation(first: Array, second: Array) -> float:
    """Pearson's correlation; NaN if either is constant up to rounding."""
    first, second = first.ravel(), second.ravel()
    if min(first.std(), second.std()) < 1e-6:  # the rounding of cosines in float32
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])
