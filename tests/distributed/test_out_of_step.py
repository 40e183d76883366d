"""Ranks at different steps, or with different options, raise an error on all ranks and go on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import gradbalance as gb
from tests.distributed.processes import run_cases
from tests.distributed.test_ranks import SOURCES, TASKS, Model, average, losses_of, share, values_of

Results = Callable[[Callable[..., Any]], list[Any]]


@pytest.fixture(scope="module")
def on_two_ranks() -> Results:
    return run_cases(2, CASES)


def error_of(call: Callable[[], Any]) -> str:
    try:
        call()
    except (ValueError, RuntimeError) as error:
        return str(error)
    return ""


def steps_of(
    balancer: gb.Balancer, model: Model, odd: Callable[[], Any], source: str = "named"
) -> tuple[str, str, bool]:
    """The errors of an odd call and of the step after it, and whether the next one is as ever."""
    first = error_of(odd)
    second = error_of(lambda: balancer.backward(losses_of(model, share())))
    model.zero_grad()
    report = balancer.backward(losses_of(model, share()))
    right = gb.Balancer(gb.MGDA(), SOURCES[source](model))
    expected = right.measure(losses_of(model, share()))
    return first, second, np.allclose(report.weights, expected.weights)


def refuses(call: str) -> tuple[str, str, bool]:
    model = Model()
    balancer = gb.Balancer(gb.MGDA(), SOURCES["named"](model))
    balancer.backward(losses_of(model, share()))
    if dist.get_rank() == 0:
        # The other rank has refused its batch, and takes its next one.
        return steps_of(balancer, model, lambda: balancer.backward(losses_of(model, share())))
    refused = error_of(lambda: getattr(balancer, call)({"task0": torch.ones(())}))
    met = error_of(lambda: balancer.backward(losses_of(model, share())))
    _, second, same = steps_of(balancer, model, lambda: None)
    assert "requires_grad" in refused or "graph" in refused
    return met, second, same


def at_the_call() -> Any:
    return refuses("backward")


def at_a_micro_batch() -> Any:
    return refuses("accumulate")


def at_a_measurement() -> Any:
    return refuses("measure")


@pytest.mark.parametrize("case", [at_the_call, at_a_micro_batch, at_a_measurement])
def test_a_rank_that_refuses_alone_and_goes_on_is_noticed(
    case: Callable[[], Any], on_two_ranks: Results
) -> None:
    for first, second, same in on_two_ranks(case):
        assert "what is done must be the same on all ranks" in first
        assert "catch it on all" in first
        assert (second, same) == ("", True)


class _Broken(torch.autograd.Function):
    """Cannot be differentiated on rank 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        if dist.get_rank() == 1:
            raise RuntimeError("broken on rank 1")
        return gradient


def broken(model: Model) -> dict[str, Tensor]:
    losses = losses_of(model, share())
    losses["task2"] = _Broken.apply(losses["task2"])
    return losses


def while_differentiating(source: str) -> tuple[str, str, bool, bool]:
    model = Model()
    balancer = gb.Balancer(gb.MGDA(), SOURCES[source](model))
    message = error_of(lambda: balancer.backward(broken(model)))
    untouched = all(p.grad is None for p in model.parameters())
    return message, *steps_of(balancer, model, lambda: None, source)[1:], untouched


def with_rows() -> Any:
    return while_differentiating("named")


def with_sketches() -> Any:
    return while_differentiating("sketched")


def with_representation() -> Any:
    return while_differentiating("representation")


@pytest.mark.parametrize("case", [with_rows, with_sketches, with_representation])
def test_no_rank_waits_for_one_that_cannot_differentiate(
    case: Callable[[], Any], on_two_ranks: Results
) -> None:
    (first, *of_first), (second, *of_second) = on_two_ranks(case)
    assert "another rank raised an error while it differentiated its losses" in first
    assert "broken on rank 1" in second
    assert of_first == of_second == ["", True, True]


def behind_the_representation(scale: float) -> tuple[str, str, bool]:
    """The trunk's backward fails on rank 1, once the ranks have met."""
    model = Model()
    balancer = gb.Balancer(gb.MGDA(), gb.Representation(model.trunk))
    handle = None
    if dist.get_rank() == 1:

        def fails(gradient: Tensor) -> None:
            raise RuntimeError("broken on rank 1")

        handle = model.trunk[0].weight.register_hook(fails)
    first = error_of(lambda: (scale * balancer(losses_of(model, share()))).backward())
    if handle is not None:
        handle.remove()
    if scale > 1 and dist.get_rank() == 0:
        # It met the other rank's next step at the end of its own.
        assert "what is done" in first
        second = first
    else:
        second = error_of(lambda: balancer.backward(losses_of(model, share())))
    report = balancer.backward(losses_of(model, share()))
    again = gb.Balancer(gb.MGDA(), gb.Representation(model.trunk))
    expected = again.measure(losses_of(model, share()))
    return first, second, np.allclose(report.weights, expected.weights)


def behind() -> Any:
    return behind_the_representation(1.0)


def behind_scaled() -> Any:
    return behind_the_representation(8.0)


@pytest.mark.parametrize("case", [behind, behind_scaled])
def test_a_rank_whose_trunk_cannot_be_differentiated_is_noticed(
    case: Callable[[], Any], on_two_ranks: Results
) -> None:
    for rank, (first, second, same) in enumerate(on_two_ranks(case)):
        assert ("broken on rank 1" in first) == (rank == 1)
        assert "what is done must be the same on all ranks" in second
        assert same


def other_calls() -> tuple[str, str, bool]:
    model = Model()
    balancer = gb.Balancer(gb.MGDA(), SOURCES["named"](model))
    call = balancer.measure if dist.get_rank() == 0 else balancer.backward
    return steps_of(balancer, model, lambda: call(losses_of(model, share())))


def other_micro_batches() -> tuple[str, str, bool]:
    model = Model()
    balancer = gb.Balancer(gb.MGDA(), SOURCES["named"](model), every=2)
    balancer.backward(losses_of(model, share()))
    if dist.get_rank() == 0:
        balancer.accumulate(losses_of(model, share()))
    return steps_of(balancer, model, lambda: balancer.backward(losses_of(model, share())))


@pytest.mark.parametrize("case", [other_calls, other_micro_batches])
def test_ranks_that_call_something_else_say_so(
    case: Callable[[], Any], on_two_ranks: Results
) -> None:
    for first, second, same in on_two_ranks(case):
        assert "what is done must be the same on all ranks" in first
        assert (second, same) == ("", True)


def built_otherwise() -> list[str]:
    rank, model = dist.get_rank(), Model()
    source = SOURCES["named"](model)
    solvers = [gb.MGDA(), gb.UPGrad()]
    loaded = gb.Balancer(gb.MGDA(), source)
    if rank == 1:
        state = gb.Balancer(gb.MGDA(), source, tasks=TASKS).get_extra_state()
        loaded.set_extra_state(state)
    balancers = [
        gb.Balancer(solvers[rank], source),
        gb.Balancer(gb.PCGrad(seed=rank), source),
        gb.Balancer(gb.MGDA(), source, every=1 + rank),
        loaded,
    ]
    return [error_of(lambda b=b: b.backward(losses_of(model, share()))) for b in balancers]


def test_another_solver_option_or_state_on_one_rank_is_an_error(on_two_ranks: Results) -> None:
    for rank, messages in enumerate(on_two_ranks(built_otherwise)):
        for message in messages:
            assert "the solver, the options and the state must be the same" in message
            assert f"on the ranks [{1 - rank}]" in message


def transposed() -> str:
    shape = (2, 3) if dist.get_rank() == 0 else (3, 2)
    weight = nn.Parameter(torch.ones(shape))
    balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters(nn.ParameterList([weight])))
    return error_of(lambda: balancer.backward([weight.sum(), weight.square().sum()]))


class Experts(nn.Module):
    """Each rank takes another one of two experts of the same shapes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.experts = nn.ModuleList(nn.Linear(4, 5) for _ in range(2)).double()
        self.heads = nn.ModuleList(nn.Linear(5, 1) for _ in TASKS).double()

    def losses(self, rank: int) -> dict[str, Tensor]:
        rows = slice(4 * rank, 4 * rank + 4)
        used = nn.Module()
        used.forward = lambda x: [head(self.experts[rank](x).tanh()) for head in self.heads]  # type: ignore[method-assign]
        return losses_of(used, rows)


def other_experts_found() -> str:
    model = Experts()
    balancer = gb.Balancer(gb.MGDA())
    return error_of(lambda: balancer.backward(model.losses(dist.get_rank())))


@pytest.mark.parametrize("case", [transposed, other_experts_found])
def test_other_parameters_of_the_same_size_are_an_error(
    case: Callable[[], Any], on_two_ranks: Results
) -> None:
    for message in on_two_ranks(case):
        assert "the parameters that the tasks share must be the same on all ranks" in message


def other_experts_named() -> list[Any]:
    model = Experts()
    found: list[Any] = []
    for options in ({}, {"sketch": 31}):
        source = gb.SharedParameters(model.experts, **options)
        report = gb.Balancer(gb.MGDA(), source).backward(model.losses(dist.get_rank()))
        found += values_of(report)
    average(model)
    return [*found, *(p.grad.numpy() for p in model.parameters())]


def test_ranks_that_take_other_experts_are_right_where_they_are_named(
    on_two_ranks: Results,
) -> None:
    model = Experts()
    expected: list[Any] = []
    for options in ({}, {"sketch": 31}):
        parts = [model.losses(rank) for rank in range(2)]
        losses = {task: (parts[0][task] + parts[1][task]) / 2 for task in TASKS}
        source = gb.SharedParameters(model.experts, **options)
        expected += values_of(gb.Balancer(gb.MGDA(), source).backward(losses))
    expected += [p.grad.numpy() for p in model.parameters()]
    for found in on_two_ranks(other_experts_named):
        for value, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(value, right, rtol=1e-9, atol=1e-12)


def chain(p: Tensor, q: Tensor, first: float) -> dict[str, Tensor]:
    """Three tasks; with the first one p is met before q, without it q before p."""
    x = torch.tensor([first, 2 * first], dtype=torch.float64)
    return {
        "a": (p * x).sum().square(),
        "b": (q * x * x).sum(),
        "c": (p * x).cos().sum() + (q * x).sin().sum(),
    }


def two_parameters() -> list[Tensor]:
    return [nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in ([1.0, 2.0], [3.0, 5.0])]


def without_a_task() -> list[Any]:
    rank, parameters = dist.get_rank(), two_parameters()
    balancer = gb.Balancer(gb.UPGrad(), tasks=("a", "b", "c"))
    balancer.backward(chain(*parameters, 1.0 + rank))
    losses = chain(*parameters, 1.0 + rank)
    if rank == 1:
        del losses["a"]
    return values_of(balancer.backward(losses))


def test_a_rank_that_lacks_a_task_lines_parameters_up_as_the_others_do(
    on_two_ranks: Results,
) -> None:
    parameters = two_parameters()
    first, second = (chain(*parameters, x) for x in (1.0, 2.0))
    losses = {"a": first["a"] / 2} | {t: (first[t] + second[t]) / 2 for t in ("b", "c")}
    report = gb.Balancer(gb.UPGrad()).backward(losses)
    for found in on_two_ranks(without_a_task):
        for value, right in zip(found, values_of(report), strict=True):
            np.testing.assert_allclose(value, right, rtol=1e-9, atol=1e-12)


CASES: list[Callable[[], Any]] = [
    at_the_call, at_a_micro_batch, at_a_measurement, with_rows, with_sketches, with_representation,
    behind, behind_scaled, other_calls, other_micro_batches, built_otherwise, transposed,
    other_experts_found, other_experts_named, without_a_task,
]  # fmt: skip
