"""The rows of the Jacobian: their Gramian, their combinations, and that no copy of them is made."""

import numpy as np
import pytest
import torch

import gradbalance as gb
from benchmarks.memory import peak_bytes
from gradbalance.gradients import blocks as blocks_module
from gradbalance.gradients import matrix as matrix_module
from gradbalance.gradients.matrix import LongRows
from gradbalance.gradients.rows import Rows


def combined(rows, tensor, weights):
    return rows.combine([tensor], weights).get(tensor)


def filled(jac, tensors, tasks="abc"):
    rows = Rows()
    for task, row in zip(tasks, jac, strict=True):
        parts = torch.split(row, [t.numel() for t in tensors])
        given = {t: p.view(t.shape).to(t.dtype) for p, t in zip(parts, tensors, strict=True)}
        rows.add(task, given)
    return rows


@pytest.mark.parametrize("size", [8, 64, 1000, 1 << 20])
def test_any_buffer_gives_the_same_answers(size, monkeypatch):
    monkeypatch.setattr(blocks_module, "_buffer_bytes", lambda device: size)
    monkeypatch.setattr(matrix_module, "_LARGEST", size)
    torch.manual_seed(0)
    tensors = [torch.zeros(3, 5), torch.zeros(7), torch.zeros(1), torch.zeros(2, 2, 2)]
    jac = torch.randn(3, 31)
    rows = filled(jac, tensors)
    expected = jac.double() @ jac.double().T
    torch.testing.assert_close(rows.gram(tensors, "abc"), expected, rtol=1e-12, atol=1e-12)
    parts = [combined(rows, tensor, {"a": 0.5, "c": -2.0}).flatten() for tensor in tensors]
    torch.testing.assert_close(torch.cat(parts), 0.5 * jac[0] - 2.0 * jac[2])


def test_what_a_task_does_not_reach_is_zero():
    first, second, third = tensors = [torch.zeros(2), torch.zeros(3), torch.zeros(1)]
    rows = Rows()
    rows.add("a", {first: torch.tensor([1.0, 2.0])})
    rows.add("b", {first: torch.tensor([3.0, 4.0]), second: torch.ones(3)})
    assert rows.gram(tensors, "ab").tolist() == [[5.0, 11.0], [11.0, 28.0]]
    expected = [[28.0, 0.0, 11.0], [0.0, 0.0, 0.0], [11.0, 0.0, 5.0]]
    assert rows.gram(tensors, "bca").tolist() == expected
    weights = {"a": 1.0, "b": 1.0}
    assert combined(rows, first, weights).tolist() == [4.0, 6.0]
    assert combined(rows, second, weights).tolist() == [1.0, 1.0, 1.0]
    assert combined(rows, third, weights) is None


def test_rows_that_are_left_out_may_be_anything():
    tensor = torch.zeros(2)
    rows = filled(torch.tensor([[1.0, 2.0], [np.nan, np.inf], [5.0, 6.0]]), [tensor])
    assert combined(rows, tensor, {"a": 1.0, "c": 1.0}).tolist() == [6.0, 8.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_summed_in_float32(dtype):
    one = torch.tensor([1.0, 256.0], dtype=dtype)
    rows = Rows()
    for task in "abcd":
        rows.add(task, {one: one})
    assert rows.gram([one], "abcd")[0, 0].item() == 65537.0
    # 1 + 3·0.001: in low precision the sum would stay at 1 or lose the third of them.
    direction = combined(rows, one, {"a": 1.0, "b": 0.004, "c": 0.004, "d": 0.004})
    assert direction.tolist() == torch.tensor([1.012, 259.072]).to(dtype).tolist()


def test_large_and_small_rows_are_summed_in_float64():
    torch.manual_seed(0)
    jac = torch.randn(2, 100_000) * torch.tensor([[1e3], [1e-3]])
    tensor = torch.zeros(100_000)
    gram = filled(jac, [tensor], "ab").gram([tensor], "ab")
    expected = jac.double() @ jac.double().T
    torch.testing.assert_close(gram, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("num_tasks", [3, 12])
def test_a_row_that_is_not_finite_shows_in_its_own_products_alone(num_tasks):
    torch.manual_seed(0)
    jac = torch.randn(num_tasks, 400_000)  # beyond what is kept as one matrix
    jac[1, 7] = torch.nan
    jac[2, 300_000] = torch.inf
    tensors = [torch.zeros(100, 1000), torch.zeros(300_000)]
    tasks = [str(task) for task in range(num_tasks)]
    gram = filled(jac, tensors, tasks).gram(tensors, tasks)
    expected = jac.double() @ jac.double().T
    torch.testing.assert_close(gram, expected, rtol=1e-12, atol=1e-9, equal_nan=True)
    assert torch.isfinite(gram).sum() == (num_tasks - 2) ** 2


@pytest.mark.parametrize("num_tasks", [8, 20])
@pytest.mark.parametrize("size", [64, 1000, 1 << 20])
def test_many_tasks_have_the_same_gramian(num_tasks, size, monkeypatch):
    monkeypatch.setattr(blocks_module, "_buffer_bytes", lambda device: size)
    monkeypatch.setattr(matrix_module, "_LARGEST", size)
    torch.manual_seed(0)
    tensors = [torch.zeros(30, 5), torch.zeros(7), torch.zeros(1)]
    jac = torch.randn(num_tasks, 158)
    tasks = [str(task) for task in range(num_tasks)]
    rows = filled(jac, tensors, tasks)
    rows.add("0", {tensors[1]: torch.ones(7)})
    jac[0, 150:157] += 1
    expected = jac.double() @ jac.double().T
    found = rows.gram(tensors, tasks)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-6)


@pytest.mark.parametrize("wide", [False, True])
def test_an_empty_tensor_has_an_empty_direction(wide):
    tensor = torch.zeros(0, 3)
    rows = Rows()
    for task in "ab":
        rows.add(task, {tensor: torch.zeros(0, 3)})
    weights = {"a": 0.5, "b": 2.0}
    assert rows.combine([tensor], weights, wide=wide)[tensor].shape == (0, 3)


def test_gradients_in_any_layout_can_be_rows():
    weight = torch.zeros(4, 3)
    jac = torch.arange(12.0).view(3, 4)
    rows = Rows()
    rows.add("a", {weight: jac.t()})  # not contiguous
    assert combined(rows, weight, {"a": 1.0}).tolist() == jac.t().tolist()
    sparse = torch.sparse_coo_tensor([[1, 3], [0, 2]], [2.0, 5.0], (4, 3), check_invariants=True)
    rows.add("a", {weight: sparse})
    assert rows.gram([weight], "a").item() == 29.0


@pytest.mark.parametrize("num_tasks", [2, 6])
def test_a_step_holds_each_row_once_and_little_else(num_tasks):
    torch.manual_seed(0)
    trunk = torch.nn.Linear(1000, 500, bias=False)
    losses = trunk(torch.randn(4, 1000))[:, :480].view(4, -1, num_tasks).square().mean((0, 1))
    balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters(trunk))
    balancer.measure(losses)  # what is made once only does not count
    row = trunk.weight.numel() * 4
    peak = peak_bytes(lambda: balancer.backward(losses))
    assert peak < (num_tasks + 0.2) * row + blocks_module._buffer_bytes(torch.device("cpu"))


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_long_rows_are_joined_where_calls_are_dear(dtype, wide, monkeypatch):
    monkeypatch.setattr(LongRows, "suit", lambda *rows: True)
    monkeypatch.setattr(matrix_module, "_LARGEST", 0)
    monkeypatch.setattr(blocks_module, "_buffer_bytes", lambda device: 64)
    torch.manual_seed(0)
    tensors = [torch.zeros(size, dtype=dtype) for size in ((3, 5), (7,), (2, 2, 2))]
    jac = torch.randn(3, 30).to(dtype)
    rows = filled(jac, tensors)
    expected = jac.double() @ jac.double().T
    torch.testing.assert_close(rows.gram(tensors, "abc"), expected, rtol=1e-12, atol=1e-12)
    found = rows.combine(tensors, {"a": 0.5, "c": -2.0}, wide=wide)
    assert [found[tensor].shape for tensor in tensors] == [tensor.shape for tensor in tensors]
    right = (0.5 * jac[0].double() - 2.0 * jac[2].double()).to(dtype)
    torch.testing.assert_close(torch.cat([found[t].flatten() for t in tensors]), right)


def test_long_rows_need_all_tasks_to_reach_all_tensors_in_one_dtype():
    one, other = torch.zeros(2, device="meta"), torch.zeros(3, device="meta")
    whole = {one: one, other: other}
    assert LongRows.suit([one, other], [whole, whole])
    assert not LongRows.suit([one, other], [whole, {one: one}])
    assert not LongRows.suit([one, other], [whole, {one: one, other: other.double()}])
    assert not LongRows.suit([one], [{one: one}])


def test_rows_of_many_short_tensors_are_held_once_too():
    torch.manual_seed(0)
    layers = [torch.nn.Linear(100, 100, bias=False) for _ in range(20)]
    trunk = torch.nn.Sequential(*layers)
    losses = trunk(torch.randn(4, 100))[:, :96].view(4, -1, 8).square().mean((0, 1))
    balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters(trunk))
    balancer.measure(losses)  # what is made once only does not count
    row = 20 * 100 * 100 * 4
    peak = peak_bytes(lambda: balancer.backward(losses))
    assert peak < (8 + 1.2) * row + blocks_module._buffer_bytes(torch.device("cpu"))
