"""Parameters on meshes of several ranks: FSDP2 over one dimension or two, tensor parallelism."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import gradbalance as gb
from tests.distributed.processes import NEEDS_FSDP2, run
from tests.distributed.test_odd_ranks import message_of

# Warnings of torch's own.
pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning:torch"), NEEDS_FSDP2]

KINDS = {
    2: ("sharded", "tensor", "sequence"),
    4: ("hybrid", "tensor", "sequence", "both"),
}
DTYPES = (torch.float64, torch.float32)


class Model(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(
            nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6), nn.LayerNorm(6), nn.Linear(6, 6)
        )
        self.heads = nn.ModuleList(nn.Linear(6, 1) for _ in range(3))
        self.to(dtype)

    def forward(self, x: Tensor) -> list[Tensor]:
        z = self.trunk(x)
        return [head(z) for head in self.heads]


def losses_of(model: nn.Module, rows: slice, dtype: torch.dtype) -> list[Tensor]:
    return [(y - i).square().mean() for i, y in enumerate(model(batch(dtype)[rows]))]


def batch(dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 4, 4, generator=generator, dtype=torch.float64).to(dtype)


def on_mesh(kind: str, dtype: torch.dtype) -> tuple[Model, slice]:
    """A model placed in some way, and this rank's part of the batch."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        PrepareModuleOutput,
        RowwiseParallel,
        SequenceParallel,
        parallelize_module,
    )
    from torch.distributed.tensor.placement_types import Replicate, Shard

    model, size = Model(dtype), dist.get_world_size()
    if kind == "sharded":
        averaging: Any = init_device_mesh("cpu", (size,))
    elif kind == "hybrid":
        averaging = init_device_mesh("cpu", (2, 2), mesh_dim_names=("copies", "shards"))
    elif kind == "both":
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
        averaging, parallel = mesh["data"], mesh["tensor"]
    else:
        averaging, parallel = None, init_device_mesh("cpu", (size,))
    if kind in ("tensor", "both"):
        # The normalisation and the last layer stay plain tensors.
        plan: Any = {"0": ColwiseParallel(), "2": RowwiseParallel()}
        parallelize_module(model.trunk, parallel, plan)
    if kind == "sequence":
        plan = {
            "0": ColwiseParallel(),
            "2": RowwiseParallel(output_layouts=Shard(1)),
            "3": SequenceParallel(use_local_output=False),
        }
        parallelize_module(model.trunk, parallel, plan)
        parallelize_module(
            model.trunk[3],
            parallel,
            PrepareModuleOutput(output_layouts=Shard(1), desired_output_layouts=Replicate()),
        )
    if averaging is None:
        return model, slice(0, 8)
    fully_shard(model.trunk, mesh=averaging)
    fully_shard(model, mesh=averaging)
    share = 8 // int(averaging.size())
    place = averaging.get_local_rank() if kind == "both" else dist.get_rank()
    return model, slice(place * share, (place + 1) * share)


def whole(tensor: Any) -> Any:
    full = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full.detach().numpy()


def steps(model: Any, rows: slice, source: gb.Source, dtype: torch.dtype) -> list[Any]:
    """Two steps, and a third that is measured."""
    parameters = list(model.parameters())  # after a forward pass they may be others
    balancer = gb.Balancer(gb.UPGrad(), source)
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    found: list[Any] = []
    for _ in range(2):
        optimizer.zero_grad()
        report = balancer.backward(losses_of(model, rows, dtype))
        found += [report.gram, report.weights, *(whole(p.grad) for p in parameters)]
        optimizer.step()
    report = balancer.measure(losses_of(model, rows, dtype))
    return [*found, report.gram, *(whole(p) for p in parameters)]


def all_steps(kinds: tuple[str, ...]) -> dict[Any, list[Any]]:
    found = {}
    for kind in kinds:
        for dtype in DTYPES:
            model, rows = on_mesh(kind, dtype)
            source = gb.ShardedParameters(model.trunk, model)
            found[kind, str(dtype)] = steps(model, rows, source, dtype)
    return found


@pytest.fixture(scope="module")
def on_two_ranks() -> list[Any]:
    return run(2, steps_and_messages)


def steps_and_messages() -> tuple[dict[Any, list[Any]], Any]:
    return all_steps(KINDS[2]), refused()


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.long)])
def test_any_placement_takes_the_step_of_one_process(size: int, on_two_ranks: list[Any]) -> None:
    results = [s for s, _ in on_two_ranks] if size == 2 else run(4, all_steps, KINDS[4])
    for dtype in DTYPES:
        model = Model(dtype)
        expected = steps(model, slice(0, 8), gb.SharedParameters(model.trunk), dtype)
        tolerance = 1e-9 if dtype == torch.float64 else 1e-4
        for kind in KINDS[size]:
            for rank, found in enumerate(results):
                here = found[kind, str(dtype)]
                for value, right in zip(here, expected, strict=True):
                    np.testing.assert_allclose(
                        value, right, rtol=tolerance, atol=tolerance, err_msg=f"{kind} {rank}"
                    )
                for value, first in zip(here, results[0][kind, str(dtype)], strict=True):
                    assert np.array_equal(value, first), f"{kind}: rank {rank} is not rank 0"


def refused() -> tuple[list[str], list[str]]:
    """The messages where FSDP1 flattened the parameters, and others."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    of_flat = []
    for keeps in (False, True):
        model: Any = Model(torch.float64)
        model = FullyShardedDataParallel(
            model, device_id=torch.device("cpu"), use_orig_params=keeps
        )
        sources = [
            lambda m: gb.SharedParameters(m),
            lambda m: gb.ShardedParameters(m, m),
            lambda m: gb.Representation(m),
        ]
        of_flat += [message_of(partial(make, model)) for make in sources]
        losses = losses_of(model, slice(0, 8), torch.float64)
        of_flat.append(message_of(partial(gb.Balancer(gb.MGDA()).backward, losses)))
    tensor, _ = on_mesh("tensor", torch.float64)
    normalisation, linear = nn.LayerNorm(4).double(), nn.Linear(4, 4).double()
    mixed = fully_shard(nn.Sequential(linear), mesh=init_device_mesh("cpu", (2,)))
    both = nn.Sequential(mixed, normalisation)
    others = [
        message_of(
            lambda: gb.Balancer(gb.MGDA()).backward(losses_of(tensor, slice(0, 8), torch.float64))
        ),
        message_of(lambda: gb.ShardedParameters(both, both)),
    ]
    return of_flat, others


def test_what_cannot_be_measured_says_what_to_do(on_two_ranks: list[Any]) -> None:
    for _, (of_flat, (found, mixed)) in on_two_ranks:
        assert len(of_flat) == 8
        assert all("fully_shard (FSDP2) instead" in message for message in of_flat)
        assert "use ShardedParameters(model.trunk, model)" in found
        assert "whose gradients nothing averages, of shapes [(4,), (4,)]" in mixed
