"""Seeded random steps: small graphs × solvers × sources × options, against plain autograd.

A failing case names its seed; `python -m tests.fuzz.test_steps SEED` runs it alone.
"""

import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gradbalance as gb

REUSED = gb.Status.REUSED
WIDTH, BATCH = 4, 5
NUM_FAST, NUM_LONG = 300, 20_000

# What may be refused, by a part of the message; `_Run.check_refusal` says when.
SHARES_NOTHING = "share no parameter"
HIDDEN = "cut from one tensor"
NOT_REACHED = "no loss reaches"
MEASURE = "measure must be parameters"
INDEPENDENT = "does not depend on the representation"
AROUND = "both through the representation and around it"
FROZEN = "representation does not require gradients"
TOGETHER = "cannot be differentiated together"
REFUSALS = (SHARES_NOTHING, HIDDEN, NOT_REACHED, MEASURE, INDEPENDENT, AROUND, FROZEN, TOGETHER)

KINDS = ["linear"] * 4 + ["deep", "tied", "bare", "skip", "extra", "own", "leaf", "sum", "same",
         "detached", "inplace", "term"]  # fmt: skip


def coin(rng, probability):
    return bool(rng.random() < probability)


def number(loss):
    return float(loss.detach())


class Trunk(nn.Module):
    def __init__(self, rng, dtype):
        super().__init__()
        depth = int(rng.integers(1, 4))
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH, dtype=dtype) for _ in range(depth))
        norms = [nn.BatchNorm1d(WIDTH, dtype=dtype) if coin(rng, 0.2) else nn.Identity()
                 for _ in range(depth)]  # fmt: skip
        self.norms = nn.ModuleList(norms)
        kinds = ["tanh", "tanh_", "relu_", "sigmoid", "none"]
        self.activations = [str(rng.choice(kinds)) for _ in range(depth)]
        self.skips = [coin(rng, 0.3) for _ in range(depth)]

    def forward(self, x):
        self.hidden = []
        for layer, norm, kind, skips in zip(
            self.layers, self.norms, self.activations, self.skips, strict=True
        ):
            y = norm(layer(x))
            y = y if kind == "none" else getattr(torch, kind)(y)
            x = x + y if skips else y
            self.hidden.append(x)
        return x


class Graph(nn.Module):
    """A trunk and heads at random; `losses` computes them anew for other data."""

    def __init__(self, rng, dtype):
        super().__init__()
        self.dtype = dtype
        self.trunk = Trunk(rng, dtype)
        self.num_tasks = int(rng.choice([1, 2, 3, 4], p=[0.1, 0.3, 0.4, 0.2]))
        self.kinds = [str(rng.choice(KINDS)) for _ in range(self.num_tasks)]
        if self.kinds[0] in ("sum", "same"):
            self.kinds[0] = "linear"
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, 3), nn.Tanh(), nn.Linear(3, 1)).to(dtype)
            if kind == "deep"
            else nn.Linear(WIDTH, 1, dtype=dtype)
            for kind in self.kinds
        )
        self.scalars = nn.ParameterList(
            nn.Parameter(torch.full([1] if coin(rng, 0.3) else [], 1.5, dtype=dtype))
            for _ in self.kinds
        )
        self.extra = nn.Parameter(torch.randn(WIDTH, dtype=dtype))
        self.unused = nn.Linear(2, 2, dtype=dtype)
        self.sources = [int(rng.integers(0, max(i, 1))) for i in range(self.num_tasks)]
        self.layer_of = [int(rng.integers(len(self.trunk.layers))) for _ in self.kinds]
        self.shapes = [[1] if coin(rng, 0.25) else [] for _ in self.kinds]
        self.uses_vector = coin(rng, 0.06)
        self.input_requires_grad = coin(rng, 0.08)
        for parameter in self.trunk.parameters():
            parameter.requires_grad_(not coin(rng, 0.1))
        if coin(rng, 0.1) and self.kinds[0] != "detached":
            self.heads[0].requires_grad_(False)

    def losses(self, rng):
        """The losses in order, the representation and the leaves that are no parameters."""
        x = torch.from_numpy(rng.normal(size=(BATCH, WIDTH))).to(self.dtype)
        x.requires_grad_(self.input_requires_grad)
        z = self.trunk(x)
        losses: list[Tensor] = []
        for task, kind in enumerate(self.kinds):
            loss = self._loss(task, kind, z, losses)
            is_plain = kind not in ("leaf", "same")
            losses.append(loss.reshape(self.shapes[task]) if is_plain else loss)
        return losses, z, [x] if x.requires_grad else []

    def _loss(self, task, kind, z, earlier):
        head, scalar, target = self.heads[task], self.scalars[task], 0.3 * task
        layer = self.layer_of[task]
        if kind == "own":
            return (self.extra * (1 + task)).square().sum() + scalar.square().sum()
        if kind == "leaf":
            return scalar
        if kind == "term":
            return scalar.reshape(()) * 2 + z.square().mean()
        if kind == "sum":
            return earlier[self.sources[task]].reshape(()) + (head(z) - 1).square().mean()
        if kind == "same":
            return earlier[self.sources[task]]
        if kind == "tied":
            y = nn.functional.linear(z, self.trunk.layers[layer].weight)
        elif kind == "bare":
            y = z
        elif kind == "skip":
            y = head(z + self.trunk.hidden[layer])
        elif kind == "extra":
            y = head(z * self.extra)
        elif kind == "detached":
            y = head(z.detach())
        elif kind == "inplace":
            y = head(z * 2).tanh_()
        else:
            y = head(z)
        return (y - target).square().mean() + 0.1


def walk(losses, stop=None):
    """The leaves behind a loss by the graph alone, not past a tensor."""
    leaves, seen, pending = set(), set(), []
    for loss in losses:
        if loss.grad_fn is None:
            leaves.add(loss)
        elif stop is None or loss.grad_fn is not stop:
            pending.append(loss.grad_fn)
    names = set()
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        names.add(type(node).__name__)
        if hasattr(node, "variable"):
            leaves.add(node.variable)
        pending += [n for n, _ in node.next_functions if n is not None and n is not stop]
    return leaves, names


@dataclass
class Batch:
    """Losses of present tasks with the gradients that plain autograd gives."""

    losses: dict[str, Tensor]
    z: Tensor
    leaves: list[Tensor]
    rows: dict[str, dict[Tensor, Tensor]] = field(default_factory=dict)
    over_z: dict[str, Tensor | None] = field(default_factory=dict)
    reached: dict[str, set[Tensor]] = field(default_factory=dict)

    def __post_init__(self):
        for task, loss in self.losses.items():
            wanted = [*self.leaves, *([self.z] if self.z.requires_grad else [])]
            up = torch.ones_like(loss)
            found = torch.autograd.grad(loss, wanted, up, retain_graph=True, allow_unused=True)
            self.over_z[task] = found[-1] if self.z.requires_grad else None
            pairs = zip(self.leaves, found, strict=False)
            self.rows[task] = {leaf: g for leaf, g in pairs if g is not None}
            self.reached[task] = walk([loss])[0]


class Run:
    """One case: a graph, a balancer with random options, and up to three steps."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        rng = self.rng
        torch.manual_seed(seed)
        dtype = torch.float64 if coin(rng, 0.6) else torch.float32
        self.rtol = 1e-9 if dtype == torch.float64 else 2e-4
        self.graph = Graph(rng, dtype)
        self.tasks = [str(i) for i in range(self.graph.num_tasks)]
        self.parameters = list(self.graph.parameters())
        self.given = self.measured_only = None
        self.groups: dict[str, list[Tensor]] = {}
        self.found: set[Tensor] = set()
        self.make_balancer()

    def make_balancer(self):
        rng = self.rng
        trunk = list(self.graph.trunk.parameters())
        kinds = ["found", "named", "measure", "sketch", "chunks", "groups", "passed", "captured",
                 "losses"]  # fmt: skip
        self.source = str(rng.choice(kinds, p=[0.28, 0.1, 0.12, 0.1, 0.1, 0.1, 0.07, 0.06, 0.07]))
        solvers = [gb.Uniform, gb.MGDA, gb.UPGrad, gb.PCGrad, gb.GradNorm, gb.UW]
        if self.source == "losses":
            solvers = [gb.Uniform, gb.UW]
        self.solver = solvers[rng.integers(len(solvers))]()
        given = trunk if coin(rng, 0.5) else [p for p in trunk if coin(rng, 0.7)] or trunk
        if self.source in ("measure", "sketch", "chunks") and coin(rng, 0.4):
            self.given = given
        arguments = [] if self.given is None else [self.given]
        if self.source == "named":
            self.given = given
            source = gb.SharedParameters(given)
        elif self.source == "measure":
            some = [p for p in (self.given or trunk) if p.requires_grad and coin(rng, 0.5)]
            self.measured_only = some or (self.given or trunk)[:1]
            source = gb.SharedParameters(*arguments, measure=self.measured_only)
        elif self.source == "sketch":
            source = gb.SharedParameters(*arguments, sketch=int(rng.choice([7, 64])))
        elif self.source == "chunks":
            source = gb.SharedParameters(*arguments, chunk_size=2)
        elif self.source == "groups":
            cut = int(rng.integers(1, len(trunk)))
            self.groups = {"first": trunk[:cut], "second": trunk[cut:]}
            source = gb.SharedParameters(self.groups)
        elif self.source in ("passed", "captured"):
            captured = self.source == "captured"
            source = gb.Representation(*([self.graph.trunk] if captured else []))
        elif self.source == "losses":
            source = gb.LossesOnly()
        else:
            source = gb.SharedParameters()
        heads = {"losses": [None, "weighted"], "groups": ["raw"]}.get(
            self.source, [None, "raw", "weighted"]
        )
        scales = [None, "sum"] if self.source == "losses" else [None, None, "sum", "norm"]
        self.skips = coin(rng, 0.5)
        self.options = {
            "heads": heads[rng.integers(len(heads))],
            "scale": scales[rng.integers(len(scales))],
            "every": int(rng.integers(1, 3)),
            "nonfinite": "skip" if self.skips else "raise",
        }
        if coin(rng, 0.3):
            self.options["tasks"] = self.tasks
        self.balancer = gb.Balancer(self.solver, source, **self.options)
        self.heads = self.balancer.options.heads

    def __str__(self):
        graph = self.graph
        return (
            f"{self.balancer!r}, source {self.source}, heads {self.heads}, kinds {graph.kinds}, "
            f"trunk {graph.trunk.activations}, {graph.dtype}, vector {graph.uses_vector}"
        )

    # ------------------------------------------------------------------ one step

    def batch(self, absent=()):
        rng = self.rng
        losses, z, inputs = self.graph.losses(rng)
        self.vector = None
        if self.graph.uses_vector and not absent:
            self.vector = torch.stack([loss.reshape(()) for loss in losses])
            losses = list(self.vector.unbind())
        named = dict(zip(self.tasks, losses, strict=True))
        present = {t: x for t, x in named.items() if t not in absent and x.requires_grad}
        if len(present) < len(named) or absent:
            self.vector = None
        if self.skips and coin(rng, 0.3) and self.vector is None:
            task = str(rng.choice(list(present))) if present else None
            if task is not None:
                spoil = [lambda x: x * np.nan, lambda x: x + np.nan, lambda x: x + np.inf]
                present[task] = spoil[rng.integers(3)](present[task])
        leaves = [p for p in self.parameters if p.requires_grad] + inputs
        return Batch(present, z, leaves)

    def form(self, batch):
        """The losses as a mapping, a sequence or a tensor."""
        rng = self.rng
        if self.vector is not None:
            return self.vector
        if coin(rng, 0.3):
            return [batch.losses.get(task) for task in self.tasks]
        names = list(batch.losses)
        rng.shuffle(names)
        if self.balancer.tasks is None:
            return {task: batch.losses.get(task) for task in self.tasks}
        return {task: batch.losses[task] for task in names}

    def shared(self, reached, over_z):
        """The groups of what is shared, by the documented rules; None if it is refused."""
        everything = set().union(*reached.values())
        if self.groups:
            groups = {n: [p for p in ps if p in everything] for n, ps in self.groups.items()}
            return groups if any(groups.values()) else None
        if self.source == "losses":
            return {"": []}
        if over_z is not None:
            return {"": list(over_z)}
        if self.given is not None:
            known = [p for p in self.given if p in everything]
            return {"": known} if known else None
        counts = Counter(leaf for leaves in reached.values() for leaf in leaves)
        candidates = [leaf for leaf, n in counts.items() if n >= min(2, len(reached))]
        parameters = [leaf for leaf in candidates if isinstance(leaf, nn.Parameter)]
        self.of_two = set(parameters) if len(reached) > 1 else set()
        known = [p for p in counts if p in self.of_two or p in self.found]
        return {"": known or parameters or candidates} if known or candidates else None

    def step(self, index):
        rng = self.rng
        absent = []
        if index > 0 and self.graph.num_tasks > 1 and coin(rng, 0.3):
            absent = [str(rng.choice(self.tasks))]
        earlier = None
        if not self.source.startswith(("passed", "captured")) and coin(rng, 0.2):
            earlier = self.batch(absent)
            if not earlier.losses:
                return "empty"
            before = self.snapshot()
            try:
                self.balancer.accumulate(self.form(earlier))
            except ValueError as error:
                return self.check_refusal(error, earlier, None, before)
            assert self.grads_equal(before), "accumulate changed .grad"
        batch = self.batch(absent)
        if not batch.losses:
            if earlier is not None:
                self.balancer.set_extra_state(self.balancer.get_extra_state())
            return "empty"
        passed = {"representation": batch.z} if self.source == "passed" else {}
        losses = self.form(batch)
        self.prepare_grads()
        before = self.snapshot()
        measured = None
        factor = float(rng.choice([1.0, 1.0, 0.25, -2.0, 1024.0]))
        retains = str(rng.choice(["no", "no", "call", "outer"]))
        call = str(rng.choice(["loss", "grad", "backward"], p=[0.6, 0.2, 0.2]))
        if call == "backward":
            factor, retains = 1.0, "no" if retains == "no" else "both"
        if self.source in ("passed", "captured") and retains == "call":
            retains = "both"
        can_hook = [leaf for row in batch.rows.values() for leaf in row]
        self.hooked = can_hook[rng.integers(len(can_hook))] if coin(rng, 0.15) else None
        handle = None if self.hooked is None else self.hooked.register_hook(lambda g: 3 * g)
        inputs = [p for p in batch.leaves if call != "grad" or coin(rng, 0.8)] or batch.leaves
        try:
            if earlier is None and coin(rng, 0.4):
                measured = self.balancer.measure(losses, **passed)
                assert self.grads_equal(before), "measure changed .grad"
                assert self.same_state(before), "measure changed the state"
            keep = {"retain_graph": retains in ("call", "both")}
            if call == "backward":
                report = self.balancer.backward(losses, **passed, **keep)
                assert report is self.balancer.report
            else:
                loss = self.balancer(losses, **passed, **keep)
                self.check_value(loss, batch)
                loss = factor * loss if coin(rng, 0.5) else loss.mul(factor)
                outer = {"retain_graph": True} if retains in ("outer", "both") else {}
                if call == "loss":
                    loss.backward(**outer)
                else:
                    got = torch.autograd.grad(loss, inputs, allow_unused=True, **outer)
                report = self.balancer.report
        except ValueError as error:
            return self.check_refusal(error, batch, earlier, before)
        finally:
            if handle is not None:
                handle.remove()

        if call == "grad":
            assert self.grads_equal(before), "autograd.grad changed .grad"
            written = dict(zip(inputs, got, strict=True))
        else:
            written = {p: p.grad for p in batch.leaves}
            if earlier is not None:
                written |= {p: p.grad for p in earlier.leaves}
        if call == "grad" and self.asks_for_nothing(batch, inputs):
            return "excluded"
        if self.looks_overflown(report):
            return "excluded"
        self.check_step(batch, earlier, report, written, before if call != "grad" else {}, factor)
        if measured is not None and report.status not in (REUSED, None):
            self.check_measured(measured, report)
        part = [x for t, x in batch.losses.items() if t in self.part]
        if call != "grad" or inputs is batch.leaves or len(inputs) == len(batch.leaves):
            self.check_graph(part, batch, retains != "no")
        self.found |= getattr(self, "of_two", set())
        return f"{call} {'reused' if report.status is REUSED else 'solved'}"

    # ------------------------------------------------------------------ exclusions

    def asks_for_nothing(self, batch, inputs):
        """No finite loss reaches what `torch.autograd.grad` is asked for.

        Then it may run no backward, as with plain losses, and the report stays the last step's.
        """
        finite = [t for t, x in batch.losses.items() if np.isfinite(number(x)) or not self.skips]
        return not any(leaf in batch.rows[t] for t in finite for leaf in inputs)

    def looks_overflown(self, report):
        """With a factor above 1, the NaN that a chunk spreads is taken for an overflow."""
        return self.source == "chunks" and self.skips and report.status is gb.Status.SKIPPED

    def keeps_own_parts(self, batch):
        """What is freed late, with the losses: only memory is at stake.

        With chunks, what the last of them does not reach. With raw heads beside `measure=` or
        `sketch=`, a task that reaches nothing that is shared.
        """
        if self.source == "chunks":
            return len(batch.losses) > 2
        return self.source in ("measure", "sketch") and self.heads == "raw"

    # ------------------------------------------------------------------ checks

    def check_value(self, loss, batch):
        finite = [x for x in map(number, batch.losses.values()) if np.isfinite(x) or not self.skips]
        assert number(loss) == pytest.approx(sum(finite), rel=self.rtol), "the value"

    def check_step(self, batch, earlier, report, written, before, factor):
        batches = [batch] if earlier is None else [earlier, batch]
        losses, rows, reached = {}, {}, {}
        for task in self.tasks:
            parts = [b for b in batches if task in b.losses]
            if not parts:
                continue
            losses[task] = sum(number(b.losses[task]) for b in parts)
            reached[task] = set().union(*(b.reached[task] for b in parts))
            rows[task] = {}
            for b in parts:
                for leaf, g in b.rows[task].items():
                    rows[task][leaf] = rows[task][leaf] + g if leaf in rows[task] else g
        # (3) losses, and who takes part
        for task, value in zip(report.names, report.losses, strict=True):
            expected = losses.get(task, np.nan)
            assert value == pytest.approx(expected, rel=self.rtol, nan_ok=True), "losses"
        out = {t for t, why in report.left_out.items() if why != "zero gradient"}
        expected_out = {t for t in self.tasks if not np.isfinite(losses.get(t, np.nan))}
        if self.source == "chunks":  # NaN takes the others of its chunk with it
            assert expected_out <= out, "left out"
        else:
            assert out == expected_out, f"left out {out}, expected {expected_out}"
        self.part = [t for t in self.tasks if t not in out]

        over_z = self.source in ("passed", "captured")
        behind = walk([batch.z])[0] if over_z else None
        groups = self.shared(reached, behind)
        assert groups is not None, "nothing is shared, and it was not refused"
        # (1) gradients
        weights = {}
        for name in groups:
            of = report.groups.get(name) if self.groups else report
            values = None if of is None else dict(zip(of.names, of.weights, strict=True))
            weights |= dict.fromkeys(groups[name], values)
        plain = dict(zip(report.names, report.weights, strict=True))
        heads = dict.fromkeys(self.tasks, 1.0) if self.heads == "raw" else plain
        # What cancels within a row, behind a BatchNorm say, is as exact as its other entries.
        largest = {t: max(float(g.abs().max()) for g in rows[t].values()) for t in self.part}
        for leaf, got in written.items():
            coefficients = weights.get(leaf, heads)
            expected, size = None, 1e-30
            for task in self.part:
                if leaf in rows[task] and coefficients is not None:
                    scale = factor * coefficients[task]
                    g = scale * rows[task][leaf].double()
                    expected = g if expected is None else expected + g
                    size += abs(scale) * largest[task]
            if leaf is self.hooked and expected is not None:
                expected, size = 3 * expected, 3 * size
            start = before.get(leaf)
            if expected is None and start is None:
                zeros = got is not None and leaf is self.hooked and not got.any()
                assert got is None or zeros, f"a gradient where no loss arrives, {self.name(leaf)}"
                continue
            assert got is not None, f"no gradient for {self.name(leaf)}"
            total = torch.zeros_like(leaf, dtype=torch.float64)
            total += 0 if expected is None else expected
            if start is not None:
                total, size = total + start.double(), size + float(start.abs().max())
            error = float((got.double() - total).abs().max())
            assert error <= self.rtol * size, f".grad of {self.name(leaf)} is off by {error}"
        # (2) Gramians
        if report.status is REUSED or self.source in ("sketch", "losses"):
            return
        for name, tensors in groups.items():
            of = report.groups.get(name) if self.groups else report
            if not tensors:
                assert of is None or of.gram is None, "a Gramian of nothing"
                continue
            if over_z:
                g = {t: batch.over_z[t].double().flatten() for t in self.part}
            else:
                columns = self.measured_only or tensors
                columns = [p for p in columns if p.requires_grad]
                g = {
                    t: torch.cat(
                        [rows[t].get(p, torch.zeros_like(p)).double().flatten() for p in columns]
                    )
                    for t in self.part
                }
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
            if one.gram is not None:
                assert one.gram == pytest.approx(other.gram, rel=1e-6, abs=1e-12, nan_ok=True)
            assert one.weights == pytest.approx(other.weights, rel=1e-4, abs=1e-6, nan_ok=True)
            assert dict(one.left_out) == dict(other.left_out)

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
        entries = [g for t in self.part for g in batch.rows.get(t, {}).values()]
        size = sum(float(g.abs().max()) for g in entries)
        for leaf, got in zip(batch.leaves, again, strict=True):
            rows = [batch.rows[t][leaf] for t in self.part if leaf in batch.rows.get(t, {})]
            assert (got is None) == (not rows), "the kept graph reaches others"
            if rows:
                error = float((got - sum(rows)).abs().max())
                assert error <= self.rtol * size, f"the kept graph is off by {error}"

    def check_refusal(self, error, batch, earlier, before):
        """(6) what is refused may be, changes nothing, and is refused for that reason."""
        text = str(error)
        known = [part for part in REFUSALS if part in text]
        assert known, f"refused: {text}"
        assert self.grads_equal(before), "a refused step changed .grad"
        assert self.same_state(before), "a refused step changed the state"
        batches = [b for b in (earlier, batch) if b is not None]
        (reason,) = known
        if reason in (SHARES_NOTHING, NOT_REACHED):
            reached: dict[str, set[Tensor]] = {}
            for b in batches:
                for task, leaves in b.reached.items():
                    reached[task] = reached.get(task, set()) | leaves
            assert self.shared(reached, None) is None, f"refused though something is shared: {text}"
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
        return f"refused: {reason}"

    # ------------------------------------------------------------------ state and .grad

    def prepare_grads(self):
        for p in self.parameters:
            p.grad = torch.randn_like(p) if p.requires_grad and coin(self.rng, 0.2) else None

    def snapshot(self):
        self.state = self.balancer.get_extra_state()
        return {p: p.grad.clone() for p in self.parameters if p.grad is not None}

    def grads_equal(self, before):
        now = {p: p.grad for p in self.parameters if p.grad is not None}
        return now.keys() == before.keys() and all(map(torch.equal, now.values(), before.values()))

    def same_state(self, before):
        return torch.equal(self.state, self.balancer.get_extra_state())

    def name(self, leaf):
        names = [n for n, p in self.graph.named_parameters() if p is leaf]
        return names[0] if names else "the input"


def run_case(seed):
    """Take the steps of a case; returns what happened, to be counted."""
    run = None
    try:
        run = Run(seed)
        happened = []
        for index in range(int(run.rng.integers(1, 4))):
            happened.append(run.step(index))
            if happened[-1].startswith(("refused", "empty")) and index == 0:
                break  # a later step without some tasks would be refused too
        return happened
    except Exception as error:
        raise AssertionError(f"case {seed} ({run}): {type(error).__name__}: {error}") from error


def run_cases(seeds):
    happened = Counter()
    for seed in seeds:
        happened.update(run_case(seed))
    solved = sum(n for what, n in happened.items() if "solved" in what)
    assert solved > len(seeds) / 2, happened
    return happened


def test_steps_are_those_of_plain_autograd():
    run_cases(range(NUM_FAST))


@pytest.mark.long
@pytest.mark.parametrize("chunk", range(10))
def test_many_steps_are_those_of_plain_autograd(chunk):
    size = NUM_LONG // 10
    start = NUM_FAST + chunk * size
    run_cases(range(start, start + size))


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(run_case(int(sys.argv[1])))
