"""What plain autograd says of a step, its micro-batches added up."""

import numpy as np
import torch

from tests.fuzz.graphs import flat, number, walk, wide


class Expected:
    """What plain autograd says of a step, all micro-batches added up."""

    def __init__(self, case, batches):
        self.losses, self.rows, self.reached = {}, {}, {}
        self.dense = set()  # (task, leaf) of gradients that are
        self.over_z = batches[-1].over_z
        for task in case.tasks:
            parts = [b for b in batches if task in b.losses]
            if not parts:
                continue
            self.losses[task] = sum(number(b.losses[task]) for b in parts)
            self.reached[task] = set().union(*(b.reached[task] for b in parts))
            row = self.rows[task] = {}
            for b in parts:
                for leaf, g in b.rows[task].items():
                    row[leaf] = row[leaf] + wide(g) if leaf in row else wide(g)
                    self.dense |= set() if g.is_sparse else {(task, leaf)}
        behind = walk([batches[-1].z])[0] if case.over_z else None
        self.groups = case.shared(self.reached, behind)
        self.infinite = {t for t in case.tasks if not np.isfinite(self.losses.get(t, np.nan))}
        self.unmeasurable = {
            task
            for task in self.losses
            if task not in self.infinite
            and any(not self.row(case, task, name).isfinite().all() for name in self.groups or ())
        }

    def row(self, case, task, group):
        """What is measured of a task, as numbers."""
        if case.over_z:
            g = self.over_z[task]
            return torch.zeros(0) if g is None else flat(g)
        columns = [p for p in case.measured_only or self.groups[group] if p.requires_grad]
        row = self.rows[task]
        parts = [flat(row.get(p, torch.zeros_like(p))) for p in columns]
        return torch.cat([torch.zeros(0, dtype=torch.float64), *parts])
