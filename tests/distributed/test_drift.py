"""Ranks raise an error if their parameters drift apart because nothing averages the gradients."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

import gradbalance as gb
from tests.distributed.processes import run_cases
from tests.distributed.test_out_of_step import error_of
from tests.distributed.test_ranks import SOURCES, Model, average, losses_of, share

Results = Callable[[Callable[..., Any]], list[Any]]
NUM_STEPS = 5


@pytest.fixture(scope="module")
def on_two_ranks() -> Results:
    return run_cases(2, CASES)


def errors_of(
    model: nn.Module, balancer: gb.Balancer, after_backward: Callable[[nn.Module], None]
) -> list[str]:
    """The error of each step, "" where there was none."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = []
    for _ in range(NUM_STEPS):
        optimizer.zero_grad()
        found.append(error_of(lambda: balancer(losses_of(model, share())).backward()))
        after_backward(model)
        optimizer.step()
    return found


def nothing(model: nn.Module) -> None:
    """Nobody averages the gradients."""


def of_every_source(after_backward: Callable[[nn.Module], None]) -> dict[str, list[str]]:
    found = {}
    for name, source in SOURCES.items():
        model = Model()
        heads = "raw" if name == "groups" else None
        balancer = gb.Balancer(gb.Uniform(), source(model), heads=heads)
        found[name] = errors_of(model, balancer, after_backward)
    return found


def forgotten() -> dict[str, list[str]]:
    return of_every_source(nothing)


def averaged() -> dict[str, list[str]]:
    return of_every_source(average)


def on_its_own() -> list[str]:
    model = Model()
    return errors_of(model, gb.Balancer(gb.Uniform(), distributed=False), nothing)


def apart() -> list[str]:
    model = Model()
    return errors_of(model, gb.Balancer(gb.Uniform(), replicas="apart"), nothing)


def begun_apart() -> tuple[list[str], list[str]]:
    model = Model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 0.1 * dist.get_rank())
    source = gb.SharedParameters(model.trunk)  # named, so that nothing is told by its values
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        errors = errors_of(model, gb.Balancer(gb.Uniform(), source), nothing)
    return errors, [str(warning.message) for warning in caught]


def with_inputs() -> list[str]:
    """Inputs that require gradients are leaves, but no parameters; each rank has its own."""
    model = Model()

    def losses() -> dict[str, torch.Tensor]:
        x = torch.randn(3, 4, dtype=torch.float64).add_(dist.get_rank()).requires_grad_()
        return {f"task{i}": out.square().mean() for i, out in enumerate(model(x))}

    balancer, found = gb.Balancer(gb.Uniform(), gb.LossesOnly()), []
    for step in range(3):
        found.append(error_of(lambda: balancer(losses()).backward()))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(0.1 * (1 + step * dist.get_rank()))
    return found


def of_odd_parameters() -> list[str]:
    """Complex ones, and such that are NaN on all ranks, which is another's matter."""
    weight = torch.nn.Parameter(torch.full((3,), 1 + 1j, dtype=torch.complex128))
    broken = torch.nn.Parameter(torch.tensor(torch.nan))
    balancer, found = gb.Balancer(gb.Uniform(), gb.SharedParameters([weight, broken])), []
    for _ in range(3):
        found.append(
            error_of(lambda: balancer([weight.abs().sum(), (2 * weight).abs().sum()]).backward())
        )
    return found


def missed_later() -> list[str]:
    """Averaged at first: after two steps the next comparison is at the fifth."""
    model, steps = Model(), iter(range(NUM_STEPS))

    def at_first(model: nn.Module) -> None:
        if next(steps) < 2:
            average(model)

    return errors_of(model, gb.Balancer(gb.Uniform(), gb.SharedParameters(model.trunk)), at_first)


CASES = [
    forgotten,
    averaged,
    on_its_own,
    apart,
    begun_apart,
    with_inputs,
    of_odd_parameters,
    missed_later,
]


def test_gradients_that_nobody_averages_are_an_error_at_the_second_step(
    on_two_ranks: Results,
) -> None:
    for found in on_two_ranks(forgotten):
        for name, errors in found.items():
            assert errors[0] == "", name
            assert "the same at the first step and are not after 1" in errors[1], name
            assert "DistributedDataParallel" in errors[1]


def test_averaged_gradients_are_right(on_two_ranks: Results) -> None:
    for found in on_two_ranks(averaged):
        assert found == {name: [""] * NUM_STEPS for name in SOURCES}


@pytest.mark.parametrize("case", [on_its_own, apart])
def test_ranks_that_are_meant_to_differ_may(case: Callable[[], Any], on_two_ranks: Results) -> None:
    assert on_two_ranks(case) == [[""] * NUM_STEPS] * 2


def test_ranks_that_begin_apart_are_told_so_once(on_two_ranks: Results) -> None:
    for errors, warned in on_two_ranks(begun_apart):
        assert errors == [""] * NUM_STEPS
        (warning,) = warned
        assert "begin with other parameters" in warning


def test_inputs_are_no_replicas(on_two_ranks: Results) -> None:
    for errors in on_two_ranks(with_inputs):
        assert errors[:2] == ["", ""], "the first update is the same on both ranks"
        assert "are not after 2" in errors[2]


def test_odd_parameters_raise_no_alarm(on_two_ranks: Results) -> None:
    assert on_two_ranks(of_odd_parameters) == [[""] * 3] * 2


def test_it_is_looked_at_now_and_then(on_two_ranks: Results) -> None:
    for errors in on_two_ranks(missed_later):
        assert [bool(error) for error in errors] == [False, False, False, False, True]
        assert "are not after 4" in errors[4]
