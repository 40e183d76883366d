"""Gradients that are not dense and real: complex parameters, sparse tables, both kinds at once."""

import numpy as np
import pytest
import torch
from torch import nn

import gradbalance as gb
from gradbalance.gradients.rows import Rows

SOURCES = {
    "found": lambda model: gb.SharedParameters(),
    "named": lambda model: gb.SharedParameters(model),
    "together": lambda model: gb.SharedParameters(model, chunk_size=2),
    "measured": lambda model: gb.SharedParameters(model, measure=model),
    "sketched": lambda model: gb.SharedParameters(model, sketch=997),
}
sources = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())


class Spectral(nn.Module):
    """A layer with complex weights, as in Fourier neural operators."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(5, dtype=torch.complex128))
        self.x = torch.randn(6, 8, dtype=torch.float64)
        self.heads = [torch.randn(8, 1, dtype=torch.float64) for _ in range(2)]

    def losses(self):
        self.f = torch.fft.rfft(self.x) * self.weight
        z = torch.fft.irfft(self.f, n=8)
        return [(z @ head - i).square().mean() for i, head in enumerate(self.heads)]


def real_rows(losses, tensor):
    rows = [torch.autograd.grad(loss, tensor, retain_graph=True)[0] for loss in losses]
    return np.stack([torch.view_as_real(row).flatten().numpy() for row in rows])


@sources
def test_complex_gradients_meet_in_their_real_inner_products(source):
    model = Spectral()
    losses = model.losses()
    jac = real_rows(losses, model.weight)
    report = gb.Balancer(gb.MGDA(), source(model)).backward(losses)
    assert report.gram == pytest.approx(jac @ jac.T)
    direction = torch.view_as_real(model.weight.grad).flatten().numpy()
    assert direction == pytest.approx(report.weights @ jac)


def test_a_complex_representation():
    model = Spectral()
    losses = model.losses()
    jac = real_rows(losses, model.f)
    report = gb.Balancer(gb.MGDA(), gb.Representation()).backward(losses, representation=model.f)
    assert report.gram == pytest.approx(jac @ jac.T)


@pytest.mark.parametrize("seed", range(20))
def test_no_loss_rises_along_a_complex_direction(seed):
    model = Spectral(seed)
    losses = model.losses()
    jac = real_rows(losses, model.weight)
    gb.Balancer(gb.MGDA()).backward(losses)
    assert (jac @ torch.view_as_real(model.weight.grad).flatten().numpy()).min() > -1e-12


class Table(nn.Module):
    """An embedding with sparse gradients before a layer, and a head a task."""

    def __init__(self, *, sparse, rows=50):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(rows, 4, sparse=sparse, dtype=torch.float64)
        self.heads = nn.ModuleList(nn.Linear(4, 1, dtype=torch.float64) for _ in range(3))
        self.ids = torch.randint(rows, (3, 8))

    def losses(self):  # each task looks up rows of its own, some of them twice
        pairs = zip(self.heads, self.ids, strict=True)
        return [(h(self.table(i)) - 1).square().mean() for h, i in pairs]


@pytest.mark.parametrize("source", [s for name, s in SOURCES.items() if name != "together"])
@pytest.mark.parametrize("micro_batches", [False, True])
def test_sparse_gradients_stay_sparse_and_are_those_of_a_dense_table(source, micro_batches):
    sparse, dense = Table(sparse=True), Table(sparse=False)
    reports = []
    for model in (sparse, dense):
        balancer = gb.Balancer(gb.UPGrad(), source(model.table))
        if micro_batches:
            balancer.accumulate(model.losses())
        reports.append(balancer.backward(model.losses()))
    assert sparse.table.weight.grad.is_sparse
    assert reports[0].gram == pytest.approx(reports[1].gram)
    torch.testing.assert_close(sparse.table.weight.grad.to_dense(), dense.table.weight.grad)
    torch.optim.SparseAdam([sparse.table.weight]).step()


def test_sparse_gradients_cannot_be_computed_together():
    model = Table(sparse=True)
    with pytest.raises(ValueError, match="use chunk_size=1"):
        gb.Balancer(gb.MGDA(), SOURCES["together"](model.table)).backward(model.losses())


@pytest.mark.parametrize("sparse_first", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_sparse_and_dense_gradients_of_one_parameter(sparse_first, shared):
    def made():
        torch.manual_seed(0)
        trunk, table = nn.Linear(3, 4), nn.Embedding(6, 4, sparse=True)
        z, ids = trunk(torch.randn(5, 3)), torch.tensor([1, 2, 2, 3, 0])
        losses = [(z * table(ids)).sum(1).square().mean(), (z @ table.weight.T).square().mean()]
        return trunk, table, losses if sparse_first else losses[::-1]

    trunk, table, losses = made()
    given = [trunk, table] if shared else trunk
    report = gb.Balancer(gb.MGDA(), gb.SharedParameters(given)).backward(losses)
    _, other, copies = made()
    weights = report.weights.tolist() if shared else [1.0, 1.0]
    sum(w * loss for w, loss in zip(weights, copies, strict=True)).backward()
    torch.testing.assert_close(table.weight.grad.to_dense(), other.weight.grad.to_dense())


def test_what_a_step_costs_goes_by_what_is_touched():
    model = Table(sparse=True, rows=3_000_000)  # 96 MB; a dense row each would be three times that
    from benchmarks.memory import peak_bytes

    balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters(model.table))
    losses = model.losses()
    assert peak_bytes(lambda: balancer.backward(losses)) < 5_000_000


@pytest.mark.parametrize("micro_batches", [False, True])
@pytest.mark.parametrize("case", ["lacking", "in a head", "nearly cancelling"])
def test_nothing_is_made_of_the_size_of_a_sparse_table(case, micro_batches):
    from benchmarks.memory import peak_bytes

    model, other = Table(sparse=True, rows=1_000_000), nn.Linear(3, 4)  # 32 MB a row, if dense

    def losses():
        first = model.losses()[0]
        z = other(torch.ones(2, 3)).square().mean()
        if case == "lacking":
            return [z + first, 2 * z]
        if case == "in a head":
            return [z + first, 2 * z + other.weight.sum()]
        return [first, -0.999 * first]

    shared = {"lacking": [other, model.table], "in a head": other}.get(case, model.table)
    balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters(shared))

    def step():
        if micro_batches:
            balancer.accumulate(losses())
        balancer.backward(losses())

    assert peak_bytes(step) < 5_000_000
    assert model.table.weight.grad.is_sparse


def test_places_of_sparse_gradients_may_have_several_indices():
    tensor = torch.zeros(4, 5, 3)
    torch.manual_seed(0)
    parts = [torch.randn(4, 5, 3) * (torch.rand(4, 5, 1) < 0.4) for _ in range(3)]
    rows = Rows()
    for task, part in zip("abc", parts, strict=True):
        rows.add(task, {tensor: part.to_sparse(2)})
    jac = torch.stack(parts).view(3, -1).double()
    torch.testing.assert_close(rows.gram([tensor], "abc"), jac @ jac.T)


@pytest.mark.parametrize("num_tasks", [2, 4])
def test_wide_heads_are_neither_copied_nor_added_up(num_tasks):
    from benchmarks.memory import peak_bytes

    trunk = nn.Linear(16, 16)
    heads = nn.ModuleList([nn.Linear(16, 20_000) for _ in range(num_tasks)])
    z = trunk(torch.randn(2, 16))
    losses = [head(z).square().mean() for head in heads]
    balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters(trunk))
    balancer.measure(losses)  # what is made once only does not count
    peak = peak_bytes(lambda: balancer.backward(losses))
    assert peak < (num_tasks + 0.7) * heads[0].weight.numel() * 4


def test_sketches_are_drawn_on_the_cpu_whatever_the_default_device():
    model = Spectral()
    losses = model.losses()
    with torch.device("meta"):
        report = gb.Balancer(gb.MGDA(), gb.SharedParameters(sketch=97)).measure(losses)
    assert np.isfinite(report.gram).all()


@pytest.mark.parametrize("argument", ["parameters", "measure"])
def test_a_tensor_that_was_computed_is_no_parameter(argument):
    x = nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match=rf"{argument} must be leaves.*Representation\(\)"):
        gb.SharedParameters(**{argument: [x, 2 * x]})


@pytest.mark.parametrize("argument", ["parameters", "measure", "group"])
def test_a_tensor_that_cannot_be_trained_is_no_parameter(argument):
    x = nn.Parameter(torch.ones(2))
    given = [x, x.data]
    options = {"parameters": {"all": given}} if argument == "group" else {argument: given}
    with pytest.raises(ValueError, match=r"that require gradients; found .*\[\(2,\)\]"):
        gb.SharedParameters(**options)


@sources
@pytest.mark.parametrize("beside", [0, 2])
def test_empty_parameters_add_nothing(source, beside):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.empty, self.other = (nn.Parameter(torch.ones(n)) for n in (0, beside))

    model = Model()
    total = model.empty.sum() + model.other.sum()
    report = gb.Balancer(gb.UPGrad(), source(model)).backward([total + 1, 2 * total])
    assert report.gram == pytest.approx(beside * np.array([[1, 2], [2, 4]]), rel=0.3)
    assert model.empty.grad.shape == (0,)


def test_losses_that_are_entries_of_one_parameter():
    x = nn.Parameter(torch.tensor([1.0, 2.0]))
    for losses in ([x[0], x[1]], x**2):
        gram = gb.Balancer(gb.MGDA()).measure(losses).gram
        assert (gram > 0).tolist() == [[True, False], [False, True]]


def test_leaves_that_are_no_parameters_are_inputs_unless_they_are_named():
    weight, x = nn.Parameter(torch.ones(2)), torch.ones(2, requires_grad=True)

    def report(source):
        weight.grad = x.grad = None
        losses = [(weight * x).sum(), (weight * x).square().sum()]
        return gb.Balancer(gb.MGDA(), source).backward(losses)

    assert report(None).gram[0, 0] == 2.0
    assert x.grad.tolist() == [3.0, 3.0]  # the plain sum, as without balancing
    named = report(gb.SharedParameters([weight, x]))
    assert named.gram[0, 0] == 4.0
    assert x.grad.tolist() == weight.grad.tolist()


def test_a_factor_of_zero_writes_sparse_zeros_to_a_sparse_table():
    table = nn.Embedding(5, 3, sparse=True)
    x = torch.tensor([0, 2])
    loss = gb.Balancer(gb.MGDA())([table(x).sum(), table(x).square().mean()])
    (0.0 * loss).backward()
    assert table.weight.grad.is_sparse
    assert table.weight.grad.to_dense().abs().max() == 0
