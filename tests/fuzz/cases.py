"""One case: a random graph, a balancer with random options, and up to three steps of it."""

from collections import Counter
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

import gradbalance as gb
from tests.fuzz.checks import Checks
from tests.fuzz.graphs import Batch, Graph, coin, number

SOLVERS = [gb.Uniform, gb.MGDA, gb.UPGrad, gb.PCGrad, gb.GradNorm, gb.UW,
           gb.NashMTL, gb.CAGrad, gb.ConFIG, gb.IMTLG, gb.AlignedMTL, gb.DualProj, gb.GradVac,
           gb.FairGrad, gb.DBMTL, gb.RLW, gb.GLS, gb.STCH,
           partial(gb.MGDA, normalization="l2"), lambda: gb.CRMOGM(gb.UPGrad())]  # fmt: skip
ON_LOSSES = [gb.Uniform, gb.UW, gb.RLW, gb.GLS, gb.STCH, gb.IMTLL, gb.SI]

# Losses that are not finite, and such whose gradients are not, over all they share or in a head.
SPOILED = {
    "times NaN": lambda x, of: x * np.nan,
    "NaN": lambda x, of: x + np.nan,
    "infinity": lambda x, of: x + np.inf,
    "root": lambda x, of: x + (of - of.detach()).square().sum().sqrt().to(x.dtype),
}


def _tripled(gradient):
    """A hook's; a trunk behind a representation that gets no gradient calls it with None."""
    return None if gradient is None else 3 * gradient


class Case(Checks):
    """A graph, a balancer with random options, and its steps."""

    def __init__(self, seed):
        self.rng = rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        precision = str(rng.choice(["float64", "float32", "bfloat16"], p=[0.5, 0.35, 0.15]))
        dtype = getattr(torch, precision)
        self.graph = Graph(rng, dtype, casts=dtype == torch.float32 and coin(rng, 0.25))
        self.tasks = [str(i) for i in range(self.graph.num_tasks)]
        self.parameters = list(self.graph.parameters())
        self.given = self.measured_only = None
        self.groups: dict[str, list[Tensor]] = {}
        self.found: set[Tensor] = set()
        self.source = "not chosen yet"
        self.make_balancer()

    def make_balancer(self):
        rng = self.rng
        trunk = list(self.graph.trunk.parameters())
        kinds = ["found", "named", "measure", "sketch", "chunks", "groups", "passed", "captured",
                 "losses"]  # fmt: skip
        self.source = str(rng.choice(kinds, p=[0.28, 0.1, 0.12, 0.1, 0.1, 0.1, 0.07, 0.06, 0.07]))
        solvers = ON_LOSSES if self.source == "losses" else SOLVERS
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
        options = {
            "heads": heads[rng.integers(len(heads))],
            "scale": scales[rng.integers(len(scales))],
            "every": int(rng.integers(1, 3)),
            "nonfinite": "skip" if self.skips else "raise",
        }
        if coin(rng, 0.3):
            options["tasks"] = self.tasks
        self.balancer = gb.Balancer(self.solver, source, **options)
        self.heads = self.balancer.options.heads

    def __str__(self):
        graph = self.graph
        return (
            f"{self.balancer!r}, source {self.source}, heads {self.heads}, kinds {graph.kinds}, "
            f"trunk {graph.trunk.activations}, {graph.dtype}, autocast {graph.casts}, "
            f"losses in {graph.narrow}, vector {graph.uses_vector}"
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
        if coin(rng, 0.3 if self.skips else 0.08) and self.vector is None and present:
            task, how = str(rng.choice(list(present))), str(rng.choice(list(SPOILED)))
            of = z if coin(rng, 0.7) else list(self.graph.heads[int(task)].parameters())[-1]
            present[task] = SPOILED[how](present[task], of)
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
        if not self.over_z and coin(rng, 0.2):
            earlier = self.batch(absent)
            if not earlier.losses:
                return "empty"
            before = self.snapshot()
            try:
                self.balancer.accumulate(self.form(earlier))
            except ValueError as error:
                return self.check_refusal(error, [earlier], before, 1.0)
            assert self.grads_equal(before), "accumulate changed .grad"
            self.check_surroundings(before)
        batch = self.batch(absent)
        if not batch.losses:
            if earlier is not None:
                self.balancer.set_extra_state(self.balancer.get_extra_state())
            return "empty"
        batches = [batch] if earlier is None else [earlier, batch]
        passed = {"representation": batch.z} if self.source == "passed" else {}
        losses = self.form(batch)
        self.prepare_grads()
        factor = float(rng.choice([1.0, 1.0, 0.25, -2.0, 1024.0, 0.0], p=[0.2] * 4 + [0.15, 0.05]))
        retains = str(rng.choice(["no", "no", "call", "outer"]))
        call = str(rng.choice(["loss", "grad", "backward"], p=[0.6, 0.2, 0.2]))
        if call == "backward":
            factor, retains = 1.0, "no" if retains == "no" else "both"
        if torch.float16 in self.graph.narrow:  # which the others would overflow
            factor = min(factor, 1.0)
        if self.over_z and retains == "call":
            retains = "both"
        can_hook = [leaf for row in batch.rows.values() for leaf in row]
        self.hooked = can_hook[rng.integers(len(can_hook))] if coin(rng, 0.15) else None
        handle = None if self.hooked is None else self.hooked.register_hook(_tripled)
        inputs = [p for p in batch.leaves if call != "grad" or coin(rng, 0.8)] or batch.leaves
        before = self.snapshot()
        measured = None
        try:
            if earlier is None and coin(rng, 0.4):
                measured = self.balancer.measure(losses, **passed)
                self.check_untouched(before, "measure")
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
                report = self.balancer.report if self.balancer._report else None
        except ValueError as error:
            return self.check_refusal(error, batches, before, factor)
        finally:
            if handle is not None:
                handle.remove()

        self.check_surroundings(before)
        if call == "grad":
            assert self.grads_equal(before), "autograd.grad changed .grad"
            if self.asks_for_nothing(batch, inputs):
                return "excluded"
            written, start = dict(zip(inputs, got, strict=True)), {}
        else:
            written = {p: p.grad for b in batches for p in b.leaves}
            start = before.grads
        if report.status is gb.Status.SKIPPED:
            return self.check_skipped(batches, written, start, before, factor)
        self.check_step(batches, report, written, start, factor)
        if measured is not None and report.status not in (gb.Status.REUSED, None):
            self.check_measured(measured, report)
        part = [x for t, x in batch.losses.items() if t in self.part]
        if call != "grad" or len(inputs) == len(batch.leaves):
            self.check_graph(part, batch, retains != "no")
        self.found |= getattr(self, "of_two", set())
        return f"{call} {'reused' if report.status is gb.Status.REUSED else 'solved'}"

    def asks_for_nothing(self, batch, inputs):
        """No finite loss reaches what `torch.autograd.grad` is asked for.

        Then it may run no backward, as with plain losses, and the report stays the last step's.
        """
        finite = [t for t, x in batch.losses.items() if np.isfinite(number(x)) or not self.skips]
        return not any(leaf in batch.rows[t] for t in finite for leaf in inputs)

    def prepare_grads(self):
        for p in self.parameters:
            p.grad = None
            if p.requires_grad and coin(self.rng, 0.2):
                p.grad = torch.randn_like(p)
                if p is getattr(self.graph.trunk.words, "weight", None) and coin(self.rng, 0.5):
                    p.grad = p.grad.to_sparse(1)
