"""Sketched rows: how near their Gramian is, that the step is exact for its weights, and memory."""

import numpy as np
import pytest
import torch

import gradbalance as gb
from benchmarks.memory import peak_bytes
from gradbalance.gradients.sketch import Sketch, sketched_gram
from tests.models import Net, grads


def cosines(jac):
    unit = jac / np.linalg.norm(jac, axis=1, keepdims=True)
    return unit @ unit.T


def sketched(jac, size, seed=0):
    sketch = Sketch(size, seed=seed)
    rows = [sketch.apply([row], [row]) for row in torch.from_numpy(jac).float()]
    gram = sketched_gram(rows).numpy()
    norms = np.sqrt(np.diagonal(gram))
    return norms, gram / norms[:, None] / norms


def gaussian(rng):
    return rng.standard_normal((4, 60_000))


def one_heavy_column(rng):
    """Rank-one gradients of a weight [out, in] with a single large input: entries 256 apart."""
    inputs = np.where(np.arange(256) == 7, 30.0, 0.1)
    return np.stack([np.outer(rng.standard_normal(240), inputs).ravel() for _ in range(4)])


def heavy_tailed(rng):
    return rng.standard_t(2, (4, 60_000))


@pytest.mark.parametrize("family", [gaussian, one_heavy_column, heavy_tailed])
@pytest.mark.parametrize("size", [1024, 16384])
def test_norms_and_cosines_are_near(family, size):
    jac = family(np.random.default_rng(0)) * np.array([[1e-4], [1.0], [1.0], [1e4]])
    jac[1] = 0.8 * jac[2] + 0.3 * jac[1]
    errors = []
    for seed in range(20):
        norms, found = sketched(jac, size, seed)
        errors.append((found - cosines(jac))[np.triu_indices(4, 1)])
        assert norms == pytest.approx(np.linalg.norm(jac, axis=1), rel=6 * np.sqrt(2 / size))
    assert np.std(errors) < 1.5 / np.sqrt(size)
    assert abs(np.mean(errors)) < 0.5 / np.sqrt(size)  # right on average


def test_a_sketch_as_long_as_the_row_is_exact():
    jac = np.random.default_rng(0).standard_normal((3, 97))
    assert sketched(jac, 100)[1] == pytest.approx(cosines(jac), abs=1e-6)
    assert Sketch(100).size == 97
    assert Sketch(2).size == 2


def test_it_is_linear_and_the_same_everywhere():
    tensors = [torch.randn(30, 20), torch.randn(7), torch.randn(1)]
    row = [torch.randn_like(t) for t in tensors]
    one = Sketch(53).apply(row, tensors)
    assert torch.equal(one, Sketch(53).apply(row, tensors))
    assert not torch.equal(one, Sketch(53, seed=1).apply(row, tensors))
    parts = sum(
        Sketch(53).apply([g if i == k else None for i, g in enumerate(row)], tensors)
        for k in range(3)
    )
    torch.testing.assert_close(parts, one)
    assert Sketch(53).apply([None, None, None], tensors).tolist() == [0.0] * 53


def test_tensors_of_a_row_do_not_share_signs():
    tensors = [torch.ones(500)] * 40
    one = [tensors[0], *[None] * 39]
    sketch = Sketch(101)
    sketches = [
        sketch.apply([tensors[0] if i == k else None for i in range(40)], tensors)
        for k in range(40)
    ]
    found = cosines(torch.stack(sketches).numpy())[np.triu_indices(40, 1)]
    assert np.abs(found).max() < 0.5
    assert one[0] is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_summed_in_float32(dtype):
    row = torch.full((4000,), 1.0, dtype=dtype)
    found = Sketch(2).apply([row], [row])
    assert found.dtype == torch.float32
    assert found.tolist() == Sketch(2).apply([row.float()], [row.float()]).tolist()


def test_the_step_is_exact_for_the_weights_that_were_found():
    model, plain = Net(), Net()
    report = gb.Balancer(gb.MGDA(), gb.SharedParameters(sketch=7)).backward(model.losses())
    weighted = zip(report.weights.tolist(), plain.losses().values(), strict=True)
    sum(w * loss for w, loss in weighted).backward()
    for name, gradient in grads(plain.trunk).items():
        torch.testing.assert_close(grads(model.trunk)[name], gradient)
    exact = gb.Balancer(gb.MGDA(), gb.SharedParameters()).measure(Net().losses())
    assert report.gram != pytest.approx(exact.gram)


@pytest.mark.parametrize("num_tasks", [2, 16])
def test_memory_does_not_grow_with_the_tasks(num_tasks):
    torch.manual_seed(0)
    trunk = torch.nn.Linear(1000, 500, bias=False)
    losses = trunk(torch.randn(4, 1000))[:, :480].view(4, -1, num_tasks).square().mean((0, 1))
    balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters(trunk, sketch=1000))
    balancer.measure(losses)  # the signs are drawn once
    row = trunk.weight.numel() * 4
    assert peak_bytes(lambda: balancer.backward(losses)) < 2.5 * row


@pytest.mark.parametrize("option", ["sketch", "chunk_size"])
@pytest.mark.parametrize("value", [0, -3, 2.5, "many"])
def test_what_is_no_count_is_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} must be a whole number, at least"):
        gb.SharedParameters(**{option: value})


def test_groups_are_not_sketched():
    model = Net()
    with pytest.raises(ValueError, match="sketch= is for one group"):
        gb.SharedParameters({"all": model.trunk}, sketch=100)


class NoVmap(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad.numpy(force=True).sum() * torch.ones(5)


def test_what_cannot_be_differentiated_together_says_so():
    model = Net()
    z = NoVmap.apply(model.trunk(model.x).float().sum(0))
    losses = [z[0], z[1].square()]
    with pytest.raises(ValueError, match="use chunk_size=1"):
        gb.Balancer(gb.MGDA(), gb.SharedParameters(model.trunk, chunk_size=2)).measure(losses)
    gb.Balancer(gb.MGDA(), gb.SharedParameters(model.trunk)).measure(losses)
