"""Private functions of torch are used in one file only, and a step without them is the same."""

import ast
from pathlib import Path

import pytest
import torch

import gradbalance as gb
from gradbalance.gradients import autograd, torch_private
from tests.models import Net, grads
from tests.test_balancer import SOURCES

NAMES = (
    "autograd.Variable._execution_engine",
    "_C._current_graph_task_id",
    "_C._autograd._get_current_graph_task_keep_graph",
    "_C._will_engine_execute_node",
    "_C._storage_Use_Count",
    "_utils._flatten_dense_tensors",
    "_utils._unflatten_dense_tensors",
)
# Private names outside of that file that are not torch's.
OWN = {"_asdict", "_replace", "_value_", "_capture"}  # of named tuples, enumerations, and a closure
EXEMPT = {"torch_private.py", "eager.py"}


def step(source):
    """The report and the gradients of one step."""
    model = Net()
    report = gb.Balancer(gb.UPGrad(), source(model)).backward(model.losses())
    return report, grads(model)


def same(one, other):
    (report, written), (expected, right) = one, other
    assert report.gram.tolist() == expected.gram.tolist()
    assert report.weights.tolist() == expected.weights.tolist()
    for name, gradient in written.items():
        assert (gradient is None) == (right[name] is None)
        assert gradient is None or torch.equal(gradient, right[name])


def take_away(monkeypatch, *names):
    """As if this release of torch lacked them."""
    lacking = torch_private.available

    def available(name):
        gone = any(name == other or name.startswith(f"{other}.") for other in names)
        return None if gone else lacking(name)

    monkeypatch.setattr(torch_private, "available", available)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_without_what_is_private_a_step_is_the_same(source, monkeypatch):
    expected = step(source)
    engine = "autograd.Variable._execution_engine"
    take_away(monkeypatch, *(name for name in NAMES if name != engine))
    monkeypatch.setattr(torch_private, "_run_backward", None)
    for module in (torch_private, *_modules_that_have("outputs_of")):
        monkeypatch.setattr(module, "outputs_of", lambda node: None)
    same(step(source), expected)


def _modules_that_have(name):
    from gradbalance.gradients import graph, rounding

    return [module for module in (graph, rounding) if hasattr(module, name)]


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_there_in_this_release(name):
    assert torch_private.available(name) is not None


def test_without_a_callback_backward_of_the_balancer_still_works(monkeypatch):
    take_away(monkeypatch, "autograd.Variable._execution_engine")
    model = Net()
    balancer = gb.Balancer(gb.UPGrad(), gb.SharedParameters(model.trunk))
    loss = balancer(model.losses())
    with pytest.raises(RuntimeError, match=r"call balancer.backward\(losses\) instead"):
        loss.backward()


def test_vectors_are_joined_and_parted_as_torch_does(monkeypatch):
    tensors = [torch.randn(2, 3), torch.randn(0, 4), torch.randn(4), torch.randn(())]
    expected = torch_private.joined(tensors)
    parts = torch_private.parted(expected, tensors)
    take_away(monkeypatch, *NAMES)
    assert torch.equal(torch_private.joined(tensors), expected)
    others = torch_private.parted(expected, tensors)
    for part, right, tensor in zip(others, parts, tensors, strict=True):
        assert part.shape == right.shape == tensor.shape
        assert torch.equal(part, right)
        assert part._base is expected


def test_what_nothing_tells_is_taken_for_unknown(monkeypatch):
    take_away(monkeypatch, *NAMES)
    assert torch_private.running_backward() == -1
    assert not torch_private.running_backward_retains()
    assert torch_private.holders_of(torch.empty(1)) is None
    with torch_private.backwards_told(pytest.fail):
        torch.ones(2, requires_grad=True).sum().backward()
    autograd.check_outer_backward(gb.gradients.graph.Graph(Net().losses()))


def private_names(tree):
    """The private names that a file reads of something else than itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (part for part in node.module.split(".") if part.startswith("_"))
            if node.module.startswith("torch"):
                yield from (a.name for a in node.names if a.name.startswith("_"))
        elif isinstance(node, ast.Attribute):
            owner = node.value
            ours = isinstance(owner, ast.Name) and owner.id in {"self", "cls", "other", "loaded"}
            if not ours:
                yield node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr":
            yield from (a.value for a in node.args if isinstance(a, ast.Constant))


@pytest.mark.parametrize(
    "file", sorted(Path(gb.__file__).parent.rglob("*.py")), ids=lambda file: file.name
)
def test_no_other_file_reads_a_private_name(file):
    if file.name in EXEMPT:
        pytest.skip("this is where they stand")
    found = {
        name
        for name in private_names(ast.parse(file.read_text()))
        if isinstance(name, str) and name.startswith("_") and not name.startswith("__")
    }
    assert not found - OWN
