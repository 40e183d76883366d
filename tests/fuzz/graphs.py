"""Small random graphs of several losses, and what plain autograd says of them."""

from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

WIDTH, BATCH, NUM_WORDS = 4, 5, 6

KINDS = ["linear"] * 4 + ["deep", "tied", "bare", "skip", "extra", "own", "leaf", "sum", "same",
         "detached", "inplace", "term", "word", "turned"]  # fmt: skip


def coin(rng, probability):
    return bool(rng.random() < probability)


def number(loss):
    return float(loss.detach())


def wide(tensor):
    """Dense, and in double precision."""
    dense = tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()
    return dense.to(torch.complex128 if dense.is_complex() else torch.float64)


def flat(tensor):
    """As one row of real numbers."""
    dense = wide(tensor).resolve_conj()
    return (torch.view_as_real(dense) if dense.is_complex() else dense).flatten()


def largest(tensor):
    """Of the finite entries; 0 where there are none."""
    entries = flat(tensor)
    return float(entries.nan_to_num(0, 0, 0).abs().max()) if len(entries) else 0.0


def distance(one, other):
    """The largest difference of two entries; none where neither is finite."""
    a, b = flat(one), flat(other)
    off = torch.where(a.isfinite() | b.isfinite(), (a - b).abs(), 0)
    return float(off.max()) if len(off) else 0.0


class Trunk(nn.Module):
    """Layers with norms and skips; some with an embedding, a complex or an empty parameter."""

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
        self.words = self.turn = self.nothing = None
        if coin(rng, 0.2):
            self.words = nn.Embedding(NUM_WORDS, WIDTH, dtype=dtype)
        if dtype.itemsize > 2 and coin(rng, 0.15):
            self.turn = nn.Parameter(torch.randn(WIDTH, dtype=dtype.to_complex()))
        if coin(rng, 0.1):
            self.nothing = nn.Parameter(torch.zeros(0, WIDTH, dtype=dtype))

    def forward(self, x, words):
        if self.words is not None:
            x = x + self.words(words)
        if self.turn is not None:
            turned = x * self.turn
            x = turned.real + turned.imag
        if self.nothing is not None:
            x = torch.cat([x, self.nothing.to(x.dtype)])
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

    def __init__(self, rng, dtype, *, casts):
        super().__init__()
        self.dtype, self.casts = dtype, casts
        self.trunk = Trunk(rng, dtype)
        self.num_tasks = int(rng.choice([1, 2, 3, 4], p=[0.1, 0.3, 0.4, 0.2]))
        self.kinds = [str(rng.choice(KINDS)) for _ in range(self.num_tasks)]
        if self.kinds[0] in ("sum", "same"):
            self.kinds[0] = "linear"
        for task, kind in enumerate(self.kinds):
            if (kind == "word" and self.trunk.words is None) or (
                kind == "turned" and self.trunk.turn is None
            ):
                self.kinds[task] = "linear"
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
        narrow = rng.choice(["bfloat16", "float16", "float32"], p=[0.6, 0.2, 0.2])
        narrows = coin(rng, 0.2)  # some losses, to less than the parameters' precision
        self.narrow = [getattr(torch, narrow) if narrows and coin(rng, 0.7) else None
                       for _ in self.kinds]  # fmt: skip
        self.uses_vector = coin(rng, 0.06)
        self.input_requires_grad = coin(rng, 0.08)
        for parameter in self.trunk.parameters():
            parameter.requires_grad_(not coin(rng, 0.1))
        if coin(rng, 0.1) and self.kinds[0] != "detached":
            self.heads[0].requires_grad_(False)

    @property
    def coarsest(self):
        """The unit of what gradients may pass on the way from the losses."""
        dtypes = [self.dtype, *(dtype for dtype in self.narrow if dtype)]
        return max(torch.finfo(d).eps for d in dtypes + [torch.bfloat16] * self.casts)

    def losses(self, rng):
        """The losses in order, the representation and the leaves that are no parameters."""
        x = torch.from_numpy(rng.normal(size=(BATCH, WIDTH))).to(self.dtype)
        words = torch.from_numpy(rng.integers(NUM_WORDS, size=BATCH))
        x.requires_grad_(self.input_requires_grad)
        losses: list[Tensor] = []
        if self.trunk.words is not None:
            self.trunk.words.sparse = coin(rng, 0.7)
        with torch.autocast("cpu", torch.bfloat16) if self.casts else nullcontext():
            z = self.trunk(x, words)
            for task, kind in enumerate(self.kinds):
                loss = self._loss(task, kind, z, losses)
                if kind not in ("leaf", "same"):
                    loss = loss.reshape(self.shapes[task])
                    if self.narrow[task] is not None and kind != "sum":
                        loss = loss.to(self.narrow[task])
                losses.append(loss)
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
        elif kind == "word":  # dense beside the sparse gradient of the trunk
            y = nn.functional.linear(z, self.trunk.words.weight)
        elif kind == "turned":
            y = head(z).abs() + self.trunk.turn.abs().square().sum()
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
