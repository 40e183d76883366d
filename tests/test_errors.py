"""Bad input: a clear error that names the task or the argument, before anything is written."""

import pytest
import torch

import gradbalance as gb
from gradbalance.gradients.graph_gradients import GraphGradients
from gradbalance.gradients.rows import Rows
from tests.models import Net, grads

nan = float("nan")


def changed(**replacements):
    def change(model):
        return model.losses() | {n: f(model.losses()[n]) for n, f in replacements.items()}

    return change


CASES = {
    "no task": (lambda model: {}, "no task"),
    "no task in a list": (lambda model: [], "no task"),
    "only absent tasks": (lambda model: {"a": None}, "no task"),
    "not losses": (lambda model: 3.0, "must be a mapping"),
    "a string": (lambda model: "loss", "must be a mapping"),
    "a scalar": (lambda model: model.losses()["task0"], r"shape \[T\]"),
    "a matrix": (lambda model: torch.ones(2, 2), r"shape \[T\]"),
    "not a tensor": (changed(task1=lambda x: 1.0), "'task1' must be a tensor; found a float"),
    "not scalar": (changed(task1=lambda x: x.repeat(2)), r"'task1' must have one element.*\[2\]"),
    "complex": (changed(task1=lambda x: x + 0j), "'task1' must be a real"),
    "no graph": (changed(task1=torch.detach), "'task1' has no graph"),
    "not finite": (changed(task1=lambda x: x * nan), "loss of task 'task1' is not finite"),
    "infinite": (changed(task1=lambda x: x * float("inf")), "'task1' is not finite; found inf"),
    "names": (lambda model: {0: model.losses()["task0"]}, "named by strings"),
}


@pytest.mark.parametrize("solver", [gb.Uniform, gb.MGDA, gb.PCGrad, gb.GradNorm])
@pytest.mark.parametrize(("losses", "match"), CASES.values(), ids=CASES.keys())
def test_losses_that_cannot_be_used(solver, losses, match):
    model = Net()
    balancer = gb.Balancer(solver())
    before = balancer.get_extra_state()
    with pytest.raises(ValueError, match=match):
        balancer.backward(losses(model))
    assert set(grads(model).values()) == {None}
    assert torch.equal(balancer.get_extra_state(), before)
    balancer.backward(model.losses())  # and the next step is not the worse for it


@pytest.mark.parametrize(
    "source",
    [
        lambda model: None,
        lambda model: gb.SharedParameters(model.trunk, measure=model.trunk[-1]),
        lambda model: gb.Representation(),
    ],
)
def test_a_freed_graph(source):
    model = Net()
    z = model.trunk(model.x)
    losses = model.losses(z)
    balancer = gb.Balancer(gb.MGDA(), source(model))
    options = {"representation": z} if isinstance(balancer.source, gb.Representation) else {}
    balancer.backward(losses, **options)
    before = grads(model)
    with pytest.raises(ValueError, match="freed by an earlier backward"):
        balancer.backward(losses, **options)
    for name, gradient in grads(model).items():
        assert torch.equal(gradient, before[name])


@pytest.mark.parametrize("solver", [gb.MGDA, gb.PCGrad, gb.GradNorm])
def test_a_measured_matrix_that_is_no_gramian(solver, monkeypatch):
    measured = Rows.gram
    model = Net()
    balancer = gb.Balancer(solver())
    before = balancer.get_extra_state()
    monkeypatch.setattr(Rows, "gram", lambda *args: -measured(*args))
    monkeypatch.setattr(GraphGradients, "sums_rows", False)  # as a source of somebody else's
    with pytest.raises(ValueError, match=r"gram is not a Gramian: gram\[\d, \d\] = .* negative"):
        balancer.backward(model.losses())
    assert set(grads(model).values()) == {None}
    assert torch.equal(balancer.get_extra_state(), before)


def test_a_freed_graph_without_gradients_compared():
    model = Net()
    losses = model.losses()
    balancer = gb.Balancer(gb.Uniform())
    balancer.backward(losses)
    with pytest.raises(ValueError, match="freed by an earlier backward"):
        balancer.backward(losses)


def test_new_and_unknown_tasks():
    model = Net()
    balancer = gb.Balancer(gb.MGDA())
    balancer.backward(model.losses())
    with pytest.raises(ValueError, match=r"unknown tasks \['new'\].*fixed as \['task0'"):
        balancer.backward(model.losses() | {"new": model.losses()["task0"]})
    with pytest.raises(ValueError, match="found 2 losses for the 3 tasks"):
        balancer.backward(list(model.losses().values())[:2])


@pytest.mark.parametrize("tasks", [[], ["a", "a"], "ab", [1, 2]])
def test_impossible_names_of_tasks(tasks):
    with pytest.raises(ValueError, match="tasks must"):
        gb.Balancer(gb.MGDA(), tasks=tasks)


def test_a_source_that_measures_too_little():
    for solver in (gb.MGDA(), gb.PCGrad(), gb.GradNorm()):
        with pytest.raises(ValueError, match="needs the gradients' Gramian, which LossesOnly"):
            gb.Balancer(solver, gb.LossesOnly())
    with pytest.raises(ValueError, match='scale="norm" needs'):
        gb.Balancer(gb.Uniform(), scale="norm")
    with pytest.raises(ValueError, match='heads="raw" needs'):
        gb.Balancer(gb.Uniform(), heads="raw")


@pytest.mark.parametrize(
    "option",
    [{"heads": "none"}, {"scale": "mean"}, {"zero_gradients": "skip"}, {"nonfinite": "warn"}],
)
def test_unknown_options(option):
    with pytest.raises(ValueError, match=rf"{next(iter(option))} must be one of"):
        gb.Balancer(gb.MGDA(), **option)


def test_what_is_no_solver_or_source():
    with pytest.raises(ValueError, match="solver must be a Solver"):
        gb.Balancer(gb.MGDA)
    with pytest.raises(ValueError, match="source must be a Source"):
        gb.Balancer(gb.MGDA(), torch.nn.Linear(1, 1))


@pytest.mark.parametrize("normalization", ["loss", "loss+"])
def test_a_loss_that_a_method_divides_by(normalization):
    model = Net()
    balancer = gb.Balancer(gb.MGDA(normalization=normalization))
    with pytest.raises(ValueError, match=r"must be positive; found -.* for task 'task2'"):
        balancer.backward(model.losses() | {"task2": -model.losses()["task2"]})
    assert set(grads(model).values()) == {None}


@pytest.mark.parametrize("weights", [[1.0], [1.0, 1.0, float("nan")], [[1.0, 1.0, 1.0]]])
def test_a_solver_that_returns_nonsense(weights):
    class Broken(gb.StatelessSolver):
        needs = "gramian"
        weighs = "gradients"

        def solve(self, problem):
            return gb.Solution(weights)

    model = Net()
    with pytest.raises(ValueError, match="Broken must return one finite weight"):
        gb.Balancer(Broken()).backward(model.losses())
    assert set(grads(model).values()) == {None}
