"""Fabric: `fabric.backward(balancer(losses))`."""

from pathlib import Path
from typing import Any

import pytest
import torch

import gradbalance as gb
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

Fabric = pytest.importorskip("lightning.fabric", reason="pip install '.[integrations]'").Fabric


def train(fabric: Any, net: Net, batches: list[torch.Tensor] | None = None) -> tuple[Any, Any]:
    """Steps of a loop with Fabric; each process takes its own share of a batch."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    model, optimizer = fabric.setup(net, optimizer)
    for x in batches or inputs():
        x = x[fabric.global_rank :: fabric.world_size]
        optimizer.zero_grad()
        fabric.backward(net.balancer(losses_of(model(x), x)))
        optimizer.step()
    return model, optimizer


def test_it_takes_the_steps_of_a_plain_loop() -> None:
    net = Net(with_state)
    train(Fabric(accelerator="cpu", devices=1), net)
    assert_same(values_of(net), loop(Net(with_state), inputs()))


def test_bfloat16() -> None:
    net = Net(with_state)
    train(Fabric(accelerator="cpu", devices=1, precision="bf16-mixed"), net)
    expected = loop(
        Net(with_state), inputs(), autocast=lambda: torch.autocast("cpu", torch.bfloat16)
    )
    assert_same(values_of(net), expected)


def test_float16_with_a_loss_scale() -> None:
    from lightning.fabric.plugins import MixedPrecision

    net, scaler = Net(), torch.amp.GradScaler("cpu", init_scale=2.0**40)
    plugin = MixedPrecision("16-mixed", device="cpu", scaler=scaler)
    train(Fabric(accelerator="cpu", devices=1, plugins=[plugin]), net, inputs() * 10)

    other, scale = Net(), torch.amp.GradScaler("cpu", init_scale=2.0**40)
    optimizer, statuses = torch.optim.SGD(other.parameters(), lr=0.1), []
    for x in inputs() * 10:
        with torch.autocast("cpu", torch.float16):
            outputs = other(x)
        optimizer.zero_grad()
        # Fabric's models return float32.
        losses = losses_of({task: out.float() for task, out in outputs.items()}, x)
        scale.scale(other.balancer(losses)).backward()
        statuses.append(other.balancer.report.status)
        scale.step(optimizer)
        scale.update()
    assert_same(values_of(net), values_of(other))
    assert statuses[0] is gb.Status.SKIPPED  # until the scale has fallen
    assert statuses[-1] is gb.Status.CONVERGED


def test_what_was_saved_goes_on_bit_for_bit(tmp_path: Path) -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    model, optimizer = train(fabric, Net(with_state), inputs()[:2])
    fabric.save(tmp_path / "state.ckpt", {"model": model, "optimizer": optimizer})
    net = Net(with_state)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    model, optimizer = fabric.setup(net, optimizer)
    fabric.load(tmp_path / "state.ckpt", {"model": model, "optimizer": optimizer})
    for x in inputs()[2:]:
        optimizer.zero_grad()
        fabric.backward(net.balancer(losses_of(model(x), x)))
        optimizer.step()
    assert_same(values_of(net), loop(Net(with_state), inputs()))


def on_a_process() -> dict[str, Any]:
    with as_one_process_of_many():
        fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
        fabric.launch()
        net = Net(with_state)
        train(fabric, net)
    return as_arrays(values_of(net))


def test_two_processes_take_the_steps_of_one() -> None:
    expected = loop(Net(with_state), inputs())
    for found in run(2, on_a_process):
        assert_same(as_tensors(found), expected, exact=False)
