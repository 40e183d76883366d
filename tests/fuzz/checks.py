"""What must hold after every step of a case: what is written, what is reported, what stays."""

from contextlib import suppress

import numpy as np
import pytest
import torch

import gradbalance as gb
from tests.fuzz.expected import Expected
from tests.fuzz.graphs import distance, flat, largest, number, walk, wide
from tests.fuzz.unchanged import Unchanged

# What may be refused, by a part of the message; `check_refusal` says when.
SHARES_NOTHING = "share no parameter"
HIDDEN = "cut from one tensor"
NOT_REACHED = "no loss reaches"
MEASURE = "measure must be parameters"
INDEPENDENT = "does not depend on the representation"
AROUND = "both through the representation and around it"
FROZEN = "representation does not require gradients"
TOGETHER = "cannot be differentiated together"
NOT_FINITE = "is not finite"
LACKS_TASKS = "at a step that lacks tasks"
REFUSALS = (SHARES_NOTHING, HIDDEN, NOT_REACHED, MEASURE, INDEPENDENT, AROUND, FROZEN, TOGETHER,
            NOT_FINITE, LACKS_TASKS)  # fmt: skip


class Checks(Unchanged):
    """The checks of a `Case`, which has the graph, the balancer and how it was made."""

    @property
    def over_z(self):
        return self.source in ("passed", "captured")

    def tolerance(self, leaf, *, is_sum):
        """How far a gradient may be off, relative to what it is made of."""
        unit = torch.finfo(leaf.dtype).eps
        if is_sum:  # of rows as they are: rounded once, and again where `.grad` or a hook was
            return 3 * unit + 8 * torch.finfo(torch.float32).eps * (unit > 1e-10)
        graph = self.graph
        if graph.casts or graph.uses_vector or {"sum", "same"} & set(graph.kinds):
            unit = graph.coarsest  # weights meet between the losses and the parameters
        return {torch.finfo(torch.float64).eps: 1e-9}.get(unit, 2e-4 if unit < 1e-6 else 20 * unit)

    @property
    def rtol(self):
        """Of what is measured: where the graph is cut, sums are taken in another order."""
        unit = torch.finfo(torch.bfloat16 if self.graph.casts else self.graph.dtype).eps
        return 1e-9 if unit < 1e-10 else 2e-4 if unit < 1e-6 else 20 * unit

    # ------------------------------------------------------------------ what is written

    def check_value(self, loss, batch):
        finite = [x for x in map(number, batch.losses.values()) if np.isfinite(x) or not self.skips]
        is_double = loss.dtype == torch.float64
        assert is_double or loss.dtype == torch.float32
        expected = pytest.approx(sum(finite), rel=1e-12 if is_double else 1e-5, nan_ok=True)
        assert number(loss) == expected, "the value"

    def check_step(self, batches, report, written, start, factor):
        expected = Expected(self, batches)
        reused = report.status is gb.Status.REUSED
        # (3) losses, and who takes part
        rel = 20 * self.graph.coarsest if len(batches) > 1 else 1e-12
        for task, value in zip(report.names, report.losses, strict=True):
            found = expected.losses.get(task, np.nan)
            assert value == pytest.approx(found, rel=rel, nan_ok=True), "losses"
        out = {t for t, why in report.left_out.items() if why != "zero gradient"}
        measures = not reused and self.source != "losses"
        expected_out = expected.infinite | (expected.unmeasurable if measures else set())
        if not self.skips:
            found = expected_out & set(expected.losses)
            assert not found, f"not finite, and not refused: {found}"
        assert abs(factor) <= 1 or not measures or not expected.unmeasurable, "not skipped"
        if self.source == "chunks" and expected.unmeasurable:  # others of the chunk with them
            assert expected_out <= out, "left out"
        else:
            assert out == expected_out, f"left out {out}, expected {expected_out}"
        self.part = [t for t in self.tasks if t not in out]
        assert expected.groups is not None, "nothing is shared, and it was not refused"
        self.check_written(expected, report, written, start, factor, len(batches) > 1)
        if not reused and self.source not in ("sketch", "losses"):
            self.check_grams(expected, report)

    def check_written(self, expected, report, written, start, factor, accumulated):
        """(1) gradients: the sum of the rows with the weights that are reported."""
        weights = {}
        for name, tensors in expected.groups.items():
            of = report.groups.get(name) if self.groups else report
            values = None if of is None else dict(zip(of.names, of.weights, strict=True))
            weights |= dict.fromkeys(tensors, values)
        plain = dict(zip(report.names, report.weights, strict=True))
        heads = dict.fromkeys(self.tasks, 1.0) if self.heads == "raw" else plain
        rows = expected.rows
        # What cancels within a row, behind a BatchNorm say, is as exact as its other entries.
        sizes = {t: max(map(largest, rows[t].values()), default=0.0) for t in self.part}
        for leaf, got in written.items():
            coefficients = weights.get(leaf, heads)
            total, size, parts = torch.zeros_like(wide(leaf)), 1e-30, []
            for task in self.part:
                if leaf in rows[task] and coefficients is not None:
                    scale = factor * coefficients[task] * (3 if leaf is self.hooked else 1)
                    parts.append((task, leaf))
                    total = total + scale * rows[task][leaf]
                    size += abs(scale) * sizes[task]
            before = start.get(leaf)
            if not parts and before is None:
                zeros = got is not None and leaf is self.hooked and not flat(got).any()
                assert got is None or zeros, f"a gradient where no loss arrives, {self.name(leaf)}"
                continue
            assert got is not None, f"no gradient for {self.name(leaf)}"
            assert got.dtype == leaf.dtype
            assert got.shape == leaf.shape
            is_sparse = not expected.dense & set(parts) and (before is None or before.is_sparse)
            assert got.is_sparse == is_sparse, f"{self.name(leaf)} in {got.layout}"
            if before is not None:
                total, size = total + wide(before), size + largest(before)
            rows_are_written = self.source in ("found", "named", "groups") or accumulated
            is_sum = rows_are_written and report.status is not gb.Status.REUSED
            error, allowed = distance(got, total), size * self.tolerance(leaf, is_sum=is_sum)
            assert error <= allowed, f".grad of {self.name(leaf)} is off by {error} of {size}"

    def check_grams(self, expected, report):
        """(2) Gramians: the inner products of the rows."""
        for name, tensors in expected.groups.items():
            of = report.groups.get(name) if self.groups else report
            if not tensors:
                assert of is None or of.gram is None, "a Gramian of nothing"
                continue
            g = {task: expected.row(self, task, name) for task in self.part}
            where = [report.names.index(t) for t in self.part]
            for i, first in zip(where, self.part, strict=True):
                for j, second in zip(where, self.part, strict=True):
                    product = float(g[first] @ g[second])
                    allowed = self.rtol * float(g[first].norm() * g[second].norm()) + 1e-30
                    assert abs(of.gram[i, j] - product) <= allowed, "the Gramian"

    def check_measured(self, measured, report):
        """(4) what was measured is what was solved."""
        pairs = [(measured, report)]
        if self.groups:
            assert measured.groups.keys() == report.groups.keys()
            pairs = [(measured.groups[n], report.groups[n]) for n in report.groups]
        for one, other in pairs:
            assert (one.gram is None) == (other.gram is None)
            assert dict(one.left_out) == dict(other.left_out)
            if one.gram is not None:
                size = np.nanmax(np.diagonal(one.gram), initial=0.0) * self.rtol + 1e-30
                assert one.gram == pytest.approx(other.gram, rel=0, abs=size, nan_ok=True)
            if self.graph.coarsest < 1e-10:
                assert one.weights == pytest.approx(other.weights, rel=1e-4, abs=1e-6, nan_ok=True)

    # ------------------------------------------------------------------ the graph

    def check_graph(self, part, batch, is_kept):
        """(5) the graph is freed, unless it was to be kept."""
        if not part or not any("Pow" in n for n in walk(part)[1]):
            return
        ups = [torch.ones_like(x) for x in part]
        again = None
        with suppress(RuntimeError):
            again = torch.autograd.grad(part, batch.leaves, ups, allow_unused=True)
        if not is_kept:
            assert again is None or self.keeps_own_parts(batch), "the graph was not freed"
            return
        assert again is not None, "the graph was not kept"
        size = sum(largest(g) for t in self.part for g in batch.rows.get(t, {}).values())
        rtol = self.rtol if self.graph.coarsest < 1e-6 else 20 * self.graph.coarsest
        for leaf, got in zip(batch.leaves, again, strict=True):
            rows = [batch.rows[t][leaf] for t in self.part if leaf in batch.rows.get(t, {})]
            assert (got is None) == (not rows), "the kept graph reaches others"
            if rows:
                error = distance(got, sum(map(wide, rows)))
                assert error <= rtol * size, f"the kept graph is off by {error}"

    def keeps_own_parts(self, batch):
        """What is freed late, with the losses: only memory is at stake.

        With chunks, what the last of them does not reach; and so without, after a task whose loss
        is a parameter or that is left out. With raw heads beside `measure=` or `sketch=`, a task
        that reaches nothing that is shared.
        """
        if self.source == "chunks":
            return len(batch.losses) > 2 or self.skips
        if "leaf" in self.graph.kinds or len(self.part) < len(batch.losses):
            return True
        return self.source in ("measure", "sketch") and self.heads == "raw"

    # ------------------------------------------------------------------ steps that are not taken

    def check_refusal(self, error, batches, before, factor):
        """(6) what is refused may be, changes nothing, and is refused for that reason."""
        text = str(error)
        known = [part for part in REFUSALS if part in text]
        assert known, f"refused: {text}"
        self.check_untouched(before, "a refused step")
        (reason,), batch = known, batches[-1]
        if reason in (SHARES_NOTHING, NOT_REACHED):
            groups = Expected(self, batches).groups
            assert groups is None, f"refused though something is shared: {text}"
        elif reason == HIDDEN:
            assert self.graph.uses_vector, text
        elif reason == INDEPENDENT:
            assert any(g is None for g in batch.over_z.values()), text
        elif reason == AROUND:
            behind = walk([batch.z])[0]
            near = [walk([x], batch.z.grad_fn)[0] for x in batch.losses.values()]
            assert any(leaves & behind for leaves in near), text
        elif reason == FROZEN:
            assert not batch.z.requires_grad, text
        elif reason == MEASURE:
            assert self.source == "measure", text
        elif reason == TOGETHER:
            assert self.source == "chunks", text
        elif reason == LACKS_TASKS:
            assert len(batch.losses) < len(self.tasks), text
            assert not self.found, text
        elif reason == NOT_FINITE:
            expected = Expected(self, batches)
            found = expected.infinite & set(expected.losses) or expected.unmeasurable
            assert found, text
            assert not self.skips, text
        return f"refused: {reason}"

    def check_skipped(self, batches, written, start, before, factor):
        """(7) nothing is learned from a factor of zero, or from what overflowed."""
        if before.tasks is not None:
            assert torch.equal(self.balancer.get_extra_state(), before.state), "it was learned from"
        if factor == 0:
            for leaf, got in written.items():
                expected = start.get(leaf, torch.zeros_like(leaf))
                rows = [row[leaf] for b in batches for row in b.rows.values() if leaf in row]
                if got is not None and all(flat(g).isfinite().all() for g in rows):
                    assert distance(got, expected) == 0, "not zero"
            return "skipped: zero"
        assert abs(factor) > 1, "skipped without a loss scale"
        expected = Expected(self, batches)
        rows = [g for t, row in expected.rows.items() if t not in expected.infinite
                for g in row.values()]  # fmt: skip
        assert not all(flat(g).isfinite().all() for g in rows), "skipped, and all was finite"
        assert not all(flat(g).isfinite().all() for g in written.values() if g is not None)
        return "skipped: not finite"

    def name(self, leaf):
        names = [n for n, p in self.graph.named_parameters() if p is leaf]
        return names[0] if names else "the input"
