"""The graphs that people have: each works with every source, or says what to do instead."""

import shutil

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import gradbalance as gb
from gradbalance.gradients import autograd
from tests.models import grads

# torch.compile looks at the .grad of what it is given and warns of its own look, and inductor
# imports what torch has deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]


class Graphed(nn.Module):
    """A trunk, two heads, and the way in which they are put together."""

    def __init__(self, trunk: nn.Module | None = None, features: int = 5) -> None:
        super().__init__()
        self.trunk = trunk or nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5))
        self.heads = nn.ModuleList([nn.Linear(features, 1), nn.Linear(features, 1)])
        self.x = torch.randn(8, 4)

    def represent(self) -> Tensor:
        return self.trunk(self.x)

    def losses(self) -> tuple[Tensor, list[Tensor]]:
        z = self.represent()
        return z, [(head(z) - i).square().mean() for i, head in enumerate(self.heads)]


class Checkpointed(Graphed):
    def represent(self) -> Tensor:
        return checkpoint(self.trunk, self.x, use_reentrant=False)


class TwiceUsed(Graphed):
    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 4), features=4)

    def represent(self) -> Tensor:
        return self.trunk(torch.tanh(self.trunk(self.x)))


class TiedHeads(Graphed):
    """The second head's weight is the first one's, and the bias its own."""

    def __init__(self) -> None:
        super().__init__()
        self.heads[1].weight = self.heads[0].weight


class Recurrent(Graphed):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__(kind(4, 5, batch_first=True))
        self.x = torch.randn(8, 3, 4)

    def represent(self) -> Tensor:
        return self.trunk(self.x)[0][:, -1]


class SparselyEmbedded(Graphed):
    def __init__(self) -> None:
        trunk = nn.Sequential(nn.Embedding(50, 5, sparse=True), nn.Flatten(), nn.Linear(15, 5))
        super().__init__(trunk)
        self.x = torch.randint(50, (8, 3))


class Normalised(Graphed):
    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU()))


class InPlace(Graphed):
    def __init__(self) -> None:
        trunk = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 5))
        super().__init__(trunk)
        self.heads = nn.ModuleList(
            [nn.Sequential(nn.Linear(5, 3), nn.ELU(inplace=True), nn.Linear(3, 1))] * 1
            + [nn.Linear(5, 1)]
        )


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class CustomFunction(Graphed):
    def represent(self) -> Tensor:
        return Doubled.apply(self.trunk(self.x))


class Hooked(Graphed):
    """A tensor hook on the way, one on a parameter and one on a module: all scale gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk[2].weight.register_hook(lambda gradient: 3 * gradient)
        self.trunk[1].register_full_backward_hook(lambda module, to, of: (0.5 * to[0],))

    def represent(self) -> Tensor:
        hidden = self.trunk[1](self.trunk[0](self.x))
        hidden.register_hook(lambda gradient: 2 * gradient)
        return self.trunk[2](hidden)


class CompiledTrunk(Graphed):
    backend = "aot_eager"

    def represent(self) -> Tensor:
        return torch.compile(self.trunk, backend=self.backend)(self.x)


class CompiledHeads(Graphed):
    def losses(self) -> tuple[Tensor, list[Tensor]]:
        z = self.represent()
        heads = [torch.compile(head, backend="aot_eager") for head in self.heads]
        return z, [(head(z) - i).square().mean() for i, head in enumerate(heads)]


GRAPHS = {
    "plain": Graphed,
    "non-reentrant checkpointing": Checkpointed,
    "a module used twice": TwiceUsed,
    "tied weights": TiedHeads,
    "RNN": lambda: Recurrent(nn.RNN),
    "LSTM": lambda: Recurrent(nn.LSTM),
    "GRU": lambda: Recurrent(nn.GRU),
    "sparse embeddings": SparselyEmbedded,
    "BatchNorm": Normalised,
    "in-place activations": InPlace,
    "custom function": CustomFunction,
    "hooks": Hooked,
    "compiled trunk": CompiledTrunk,
    "compiled heads": CompiledHeads,
}
SOURCES = {
    "losses": lambda model: gb.LossesOnly(),
    "found": lambda model: gb.SharedParameters(),
    "named": lambda model: gb.SharedParameters(model.trunk),
    "sketched": lambda model: gb.SharedParameters(model.trunk, sketch=5000),
    "measured": lambda model: gb.SharedParameters(
        model.trunk, measure=list(model.trunk.parameters())[-1]
    ),
    "representation": lambda model: gb.Representation(),
}


def made(graph) -> Graphed:
    torch._dynamo.reset()
    torch.manual_seed(0)
    return graph()


def assert_equal_gradients(model, expected):
    for name, gradient in grads(expected).items():
        found = grads(model)[name]
        if gradient is not None and gradient.is_sparse:
            gradient, found = gradient.to_dense(), found.to_dense()
        torch.testing.assert_close(found, gradient, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_a_uniform_step_is_the_plain_one(graph, source):
    model, plain = made(graph), made(graph)
    balancer = gb.Balancer(gb.Uniform(), source(model))
    for _ in range(2):
        z, losses = model.losses()
        passed = z if isinstance(balancer.source, gb.Representation) else None
        balancer.backward(losses, representation=passed)
        sum(plain.losses()[1]).backward()
    assert_equal_gradients(model, plain)
    for one, other in zip(model.buffers(), plain.buffers(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("graph", [g for n, g in GRAPHS.items() if n != "hooks"])
def test_the_gramian_is_that_of_each_loss_alone(graph):
    model, plain = made(graph), made(graph)
    report = gb.Balancer(gb.MGDA(), gb.SharedParameters(model.trunk)).measure(model.losses()[1])
    rows = []
    for index in range(2):
        plain.zero_grad()
        plain.losses()[1][index].backward()
        gradients = [p.grad.to_dense() for p in plain.trunk.parameters()]
        rows.append(torch.cat([g.flatten() for g in gradients]).double())
    expected = torch.stack(rows) @ torch.stack(rows).T
    assert report.gram == pytest.approx(expected.numpy(), rel=1e-5)


@pytest.mark.parametrize(("worth_freeing", "num_rows"), [(1 << 20, 2), (0, 3)])
def test_hooks_on_the_way_see_the_row_of_each_task_and_those_of_parameters_the_sum(
    worth_freeing, num_rows, monkeypatch
):
    monkeypatch.setattr(autograd, "_WORTH_FREEING", worth_freeing)
    model, seen = made(Hooked), []
    model.trunk[2].weight.register_hook(lambda gradient: seen.append("parameter"))
    z, losses = model.losses()
    z.register_hook(lambda gradient: seen.append("way"))
    gb.Balancer(gb.MGDA(), gb.SharedParameters(model.trunk)).backward(losses)
    # Once a row, and once more where a large part of the graph ends that is freed after its task.
    assert seen == ["way"] * num_rows + ["parameter"]


class WholeCompiled(Graphed):
    def losses(self) -> tuple[Tensor, list[Tensor]]:
        compiled = torch.compile(lambda: super(WholeCompiled, self).losses(), backend="aot_eager")
        return compiled()


def test_a_whole_compiled_model_is_to_be_named():
    model, plain = made(WholeCompiled), made(Graphed)
    with pytest.raises(ValueError, match=r"Name it: SharedParameters\(model\.trunk\)"):
        gb.Balancer(gb.MGDA()).backward(model.losses()[1])
    sources = (gb.SharedParameters(model.trunk), gb.SharedParameters(model.trunk, sketch=5000))
    for source in (*sources, gb.LossesOnly()):
        model.zero_grad()
        plain.zero_grad()
        gb.Balancer(gb.Uniform(), source).backward(model.losses()[1])
        sum(plain.losses()[1]).backward()
        assert_equal_gradients(model, plain)


class Reentrant(Graphed):
    def represent(self) -> Tensor:
        return checkpoint(self.trunk, self.x.requires_grad_(), use_reentrant=True)


def test_reentrant_checkpointing_works_where_the_whole_graph_is_differentiated():
    plain = made(Graphed)
    sum(plain.losses()[1]).backward()
    for source in (gb.LossesOnly(), gb.Representation()):
        model = made(Reentrant)
        z, losses = model.losses()
        passed = z if isinstance(source, gb.Representation) else None
        gb.Balancer(gb.Uniform(), source).backward(losses, representation=passed)
        assert_equal_gradients(model, plain)
    for source in (None, gb.SharedParameters(model.trunk)):
        model = made(Reentrant)
        with pytest.raises(ValueError, match="use_reentrant=False"):
            gb.Balancer(gb.MGDA(), source).backward(model.losses()[1])


@pytest.mark.long
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "c++", "clang++"))), reason="no compiler")
@pytest.mark.parametrize("source", ["found", "named", "sketched", "representation"])
def test_a_trunk_compiled_by_inductor(source, monkeypatch):
    monkeypatch.setattr(CompiledTrunk, "backend", "inductor")
    test_a_uniform_step_is_the_plain_one(CompiledTrunk, SOURCES[source])


def test_graphs_of_gradients_are_not_made():
    model = made(Graphed)
    with pytest.raises(TypeError, match="create_graph"):
        gb.Balancer(gb.MGDA()).backward(model.losses()[1], create_graph=True)
    assert not any(g is not None and g.requires_grad for g in grads(model).values())


@pytest.mark.parametrize("implementation", [{"fused": True}, {"foreach": True}, {}])
def test_it_goes_with_clipping_averages_and_any_optimizer(implementation):
    model, plain = made(Graphed), made(Graphed)
    average = torch.optim.swa_utils.AveragedModel(model)
    balancer = gb.Balancer(gb.Uniform(), gb.SharedParameters())
    optimizers = [
        torch.optim.AdamW(m.parameters(), lr=0.1, **implementation) for m in (model, plain)
    ]
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
        balancer.backward(model.losses()[1])
        sum(plain.losses()[1]).backward()
        norms = [nn.utils.clip_grad_norm_(m.parameters(), 0.1) for m in (model, plain)]
        assert norms[0] == pytest.approx(norms[1])
        for optimizer in optimizers:
            optimizer.step()
        average.update_parameters(model)
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert int(average.n_averaged) == 3


def test_a_chunk_gives_a_task_no_gradient_of_what_it_does_not_reach():
    trunk, other = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    losses = [trunk.sum() * torch.nan, trunk.prod() * torch.nan, other.square().sum()]
    source = gb.SharedParameters([trunk, other], chunk_size=3)
    report = gb.Balancer(gb.Uniform(), source, nonfinite="skip").backward(losses)
    assert report.left_out == {"0": "not finite", "1": "not finite"}
    assert trunk.grad is None
    assert other.grad.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("num_tasks", [2, 4])
@pytest.mark.parametrize("source", SOURCES)
def test_how_often_checkpointed_statistics_are_updated(source, num_tasks):
    class CheckpointedNorm(Graphed):
        def __init__(self) -> None:
            super().__init__(nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 5)))
            self.heads = nn.ModuleList(nn.Linear(5, 1) for _ in range(num_tasks))

        def represent(self) -> Tensor:
            return self.trunk[2](checkpoint(self.trunk[:2], self.x, use_reentrant=False))

    model = made(CheckpointedNorm)
    z, losses = model.losses()
    passed = z if source == "representation" else None
    gb.Balancer(gb.Uniform(), SOURCES[source](model)).backward(losses, representation=passed)
    once_a_task = source in ("found", "named")
    expected = num_tasks + 1 if once_a_task else num_tasks + 2 if source == "sketched" else 2
    assert model.trunk[1].num_batches_tracked == expected
