"""FSDP2: rows from one backward a task, on the CPU with gloo."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

import gradbalance as gb
from tests.distributed.processes import NEEDS_FSDP2, run
from tests.distributed.test_odd_ranks import message_of
from tests.distributed.test_ranks import SOLVERS, Model, losses_of, share, train, values_of

# Warnings of torch's own.
pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning:torch"), NEEDS_FSDP2]


def sharded_model() -> Any:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = Model()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    fully_shard(model.trunk, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def full(tensor: Any) -> Any:
    return None if tensor is None else tensor.full_tensor().detach().numpy()


def train_sharded(solver: str, every: int) -> list[Any]:
    model = sharded_model()
    parameters = list(model.parameters())  # after a forward pass they may be unsharded ones
    source = gb.ShardedParameters(model.trunk, model)
    if SOLVERS[solver]().needs == "losses":
        source = gb.LossesOnly()
    balancer = gb.Balancer(SOLVERS[solver](), source, every=every)
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    found: list[Any] = []
    for _ in range(3):
        optimizer.zero_grad()
        found += values_of(balancer.backward(losses_of(model, share())))
        optimizer.step()
        with torch.no_grad():
            balancer.after_step(losses_of(model, share()))
    return [*found, *(full(p) for p in parameters)]


def keeps_gradients() -> tuple[list[Any], list[Any], str]:
    model = sharded_model()
    parameters = list(model.parameters())
    balancer = gb.Balancer(gb.MGDA(), gb.ShardedParameters(model.trunk, model))
    sum(losses_of(model, share()).values()).backward()
    before = [full(p.grad) for p in parameters]
    losses = losses_of(model, share())
    losses["task1"] = losses["task1"] * torch.nan
    message = message_of(lambda: balancer.backward(losses))
    after = [full(p.grad) for p in parameters]
    balancer.backward(losses_of(model, share()))
    added = [full(p.grad) - b for p, b in zip(parameters, before, strict=True)]
    fresh = sharded_model()
    of_fresh = list(fresh.parameters())
    gb.Balancer(gb.MGDA(), gb.ShardedParameters(fresh.trunk, fresh)).backward(
        losses_of(fresh, share())
    )
    alone = [full(p.grad) for p in of_fresh]
    same = [np.array_equal(one, other) for one, other in zip(before, after, strict=True)]
    close = [np.allclose(one, other) for one, other in zip(added, alone, strict=True)]
    return same, close, message


def fired() -> list[int]:
    """How often hooks of a sharded parameter fired after a measurement, and after a step."""
    model = sharded_model()
    parameter, calls = next(iter(model.trunk.parameters())), []
    parameter.register_post_accumulate_grad_hook(calls.append)
    balancer = gb.Balancer(gb.MGDA(), gb.ShardedParameters(model.trunk, model))
    balancer.measure(losses_of(model, share()))
    measured = len(calls)
    balancer(losses_of(model, share())).backward()
    return [measured, len(calls)]


def refusals() -> list[str]:
    model, plain = sharded_model(), Model()
    return [
        message_of(lambda: gb.SharedParameters(model.trunk)),
        message_of(lambda: gb.ShardedParameters([], model)),
        message_of(lambda: gb.ShardedParameters(plain.trunk, model)),
        message_of(lambda: gb.Representation(model.trunk)),
    ]


SOLVERS_TRIED = [("MGDA", 1), ("MGDA", 2), ("PCGrad", 1), ("GradNorm", 1), ("FAMO", 1)]


def all_cases() -> dict[str, Any]:
    return {
        "trained": [train_sharded(*case) for case in SOLVERS_TRIED],
        "kept": keeps_gradients(),
        "refused": refusals(),
        "fired": fired(),
    }


@pytest.fixture(scope="module")
def on_two_ranks() -> list[dict[str, Any]]:
    return run(2, all_cases)


def test_sharded_ranks_take_the_step_of_one_process(on_two_ranks: list[dict[str, Any]]) -> None:
    for index, (solver, every) in enumerate(SOLVERS_TRIED):
        source = "losses" if solver == "FAMO" else "named"
        if every > 1:
            continue
        expected = train(source, solver, ddp=False)
        for rank in on_two_ranks:
            for value, right in zip(rank["trained"][index], expected, strict=True):
                np.testing.assert_allclose(value, right, rtol=1e-8, atol=1e-12, err_msg=solver)


def test_weights_are_reused(on_two_ranks: list[dict[str, Any]]) -> None:
    for rank in on_two_ranks:
        solved, reused = rank["trained"][0], rank["trained"][1]
        assert reused[2].tolist() == reused[4].tolist()  # the second step has no Gramian
        assert solved[2].tolist() == reused[2].tolist()


def test_gradients_are_kept_and_added_to(on_two_ranks: list[dict[str, Any]]) -> None:
    for rank in on_two_ranks:
        same, close, message = rank["kept"]
        assert "the loss of task 'task1' is not finite" in message
        assert all(same)
        assert all(close)


def test_hooks_fire_once_a_step_and_never_for_a_measurement(
    on_two_ranks: list[dict[str, Any]],
) -> None:
    assert [rank["fired"] for rank in on_two_ranks] == [[0, 1], [0, 1]]


def test_what_cannot_be_sharded_says_so(on_two_ranks: list[dict[str, Any]]) -> None:
    for rank in on_two_ranks:
        unsuited, nothing, plain, representation = rank["refused"]
        assert "use ShardedParameters(model.trunk, model)" in unsuited
        assert "found no parameter" in nothing
        assert "Build it after sharding" in plain
        assert "lie over a mesh of ranks" in representation


def test_unsharded_modules_take_no_notice() -> None:
    assert isinstance(gb.SharedParameters(nn.Linear(2, 2)), gb.SharedParameters)
