"""`torch.distributed.checkpoint` into a fresh model, whose balancer has seen no step yet."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import gradbalance as gb
from tests.contract.table import CONTRACTS
from tests.distributed.processes import NEEDS_FSDP2, run
from tests.distributed.test_fsdp import full
from tests.distributed.test_ranks import Model, losses_of, share
from tests.test_state import Run

# Warnings of torch's own.
pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.distributed is (disabled|unavailable)"),
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch"),
]
NUM_STEPS = 3
# Without it torch warns, and does the same; older releases lack it.
HAS_NO_DIST = "no_dist" in inspect.signature(checkpoint.save).parameters
ALONE = {"no_dist": True} if HAS_NO_DIST else {}


def state_of(model: Any, optimizer: Any) -> dict[str, Any]:
    return dict(zip(("model", "optimizer"), get_state_dict(model, optimizer), strict=True))


def pass_on(one: tuple[Any, Any], other: tuple[Any, Any], folder: Path, **options: Any) -> None:
    """Save one pair of a model and its optimizer, and load what was saved into another."""
    checkpoint.save(state_of(*one), checkpoint_id=str(folder), **options)
    state = state_of(*other)
    checkpoint.load(state, checkpoint_id=str(folder), **options)
    set_state_dict(*other, model_state_dict=state["model"], optim_state_dict=state["optimizer"])


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_fresh_model_goes_on_as_the_unbroken_one(name: str, tmp_path: Path) -> None:
    one, other = Run(CONTRACTS[name].make()), Run(CONTRACTS[name].make())
    for _ in range(NUM_STEPS):
        one.step()
    pass_on((one.model, one.optimizer), (other.model, other.optimizer), tmp_path, **ALONE)
    for _ in range(NUM_STEPS):
        assert one.step().weights.tolist() == other.step().weights.tolist()
    for first, second in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(first, second)


MESHES = {"FSDP2": (2,), "HSDP": (2, 1)}


class Sharded:
    def __init__(self, shape: tuple[int, ...]) -> None:
        names = ("replicate", "shard")[-len(shape) :]
        mesh = init_device_mesh("cpu", shape, mesh_dim_names=names)
        self.model: Any = Model()
        fully_shard(self.model.trunk, mesh=mesh)
        fully_shard(self.model, mesh=mesh)
        source = gb.ShardedParameters(self.model.trunk, self.model)
        self.model.balancer = gb.Balancer(gb.GradNorm(), source)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)

    def step(self) -> list[float]:
        self.optimizer.zero_grad()
        report = self.model.balancer.backward(losses_of(self.model, share()))
        self.optimizer.step()
        weights: list[float] = report.weights.tolist()
        return weights


def on_a_rank(folder: Path) -> dict[str, list[Any]]:
    found = {}
    for name, shape in MESHES.items():
        one, other = Sharded(shape), Sharded(shape)
        for _ in range(NUM_STEPS):
            one.step()
        parts = (one.model, one.optimizer), (other.model, other.optimizer)
        pass_on(*parts, folder / name)
        weights = [run.step() for run in (one, other) for _ in range(NUM_STEPS)]
        values = [[full(p) for p in run.model.parameters()] for run in (one, other)]
        found[name] = [weights, values]
    dist.barrier()
    return found


@NEEDS_FSDP2
def test_sharded_models_go_on_as_well(tmp_path: Path) -> None:
    for found in run(2, on_a_rank, tmp_path):
        for weights, (first, second) in found.values():
            assert weights[:NUM_STEPS] == weights[NUM_STEPS:]
            assert weights[0] != weights[1], "the solver has a state"
            assert all((a == b).all() for a, b in zip(first, second, strict=True))
