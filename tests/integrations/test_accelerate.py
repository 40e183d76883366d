"""Accelerate: `accelerator.backward(balancer(losses))`."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.distributed.processes import as_one_process_of_many, run
from tests.integrations.plain import (
    Net,
    as_arrays,
    as_tensors,
    assert_same,
    inputs,
    loop,
    losses_of,
    values_of,
    with_state,
)

accelerate = pytest.importorskip("accelerate", reason="pip install '.[integrations]'")


@pytest.fixture(autouse=True)
def forgotten() -> None:
    forget_the_first()


def forget_the_first() -> None:
    """An Accelerator is what the process's first one was."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


def train(
    accelerator: Any, net: Net, batches: list[torch.Tensor], clip: float | None = None
) -> tuple[Any, Any]:
    """Steps of a loop with Accelerate; each process takes its own share of a batch."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    model, optimizer = accelerator.prepare(net, optimizer)
    for x in batches:
        x = x[accelerator.process_index :: accelerator.num_processes]
        with accelerator.accumulate(model):
            loss = net.balancer(losses_of(model(x), x))
            accelerator.backward(loss)
            if clip is not None and accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
    return model, optimizer


def test_it_takes_the_steps_of_a_plain_loop() -> None:
    net = Net(with_state)
    train(accelerate.Accelerator(cpu=True), net, inputs())
    assert_same(values_of(net), loop(Net(with_state), inputs()))


def test_accumulation_divides_and_clipping_clips() -> None:
    net = Net()
    train(accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2), net, inputs(), clip=0.5)
    assert_same(values_of(net), loop(Net(), inputs(), accumulate=2, clip=0.5))


def test_bfloat16() -> None:
    net = Net()
    train(accelerate.Accelerator(cpu=True, mixed_precision="bf16"), net, inputs())
    expected = loop(Net(), inputs(), autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    assert_same(values_of(net), expected, exact=False)


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("where", ["inside", "beside"])
def test_what_was_saved_goes_on_bit_for_bit(where: str, safe: bool, tmp_path: Path) -> None:
    def parts() -> tuple[Any, Net, Any, Any]:
        accelerator = accelerate.Accelerator(cpu=True)
        net = Net(with_state)
        balancer = net.balancer
        if where == "beside":  # not a part of the model
            del net.balancer
            accelerator.register_for_checkpointing(balancer)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        model, optimizer = accelerator.prepare(net, optimizer)

        def step(x: torch.Tensor) -> None:
            optimizer.zero_grad()
            accelerator.backward(balancer(losses_of(model(x), x)))
            optimizer.step()

        return accelerator, net, step, balancer

    accelerator, net, step, _ = parts()
    for x in inputs()[:3]:
        step(x)
    accelerator.save_state(str(tmp_path / "state"), safe_serialization=safe)
    forget_the_first()
    again, net, step, _ = parts()
    again.load_state(str(tmp_path / "state"))
    step(inputs()[3])
    assert_same(values_of(net), loop(Net(with_state), inputs()))


def on_a_process() -> dict[str, Any]:
    with as_one_process_of_many():
        net = Net(with_state)
        train(accelerate.Accelerator(cpu=True), net, inputs())
    return as_arrays(values_of(net))


def test_two_processes_take_the_steps_of_one() -> None:
    expected = loop(Net(with_state), inputs())
    for found in run(2, on_a_process):
        assert_same(as_tensors(found), expected, exact=False)
