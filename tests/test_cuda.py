"""On a GPU: the same steps as on the CPU, for all kinds of sources; skipped where there is none."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import gradbalance as gb
from tests.models import Net, grads

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

SOLVERS = [gb.Uniform, gb.MGDA, gb.UPGrad, gb.PCGrad, gb.GradNorm, gb.NashMTL, gb.DBMTL, gb.UW]
SOURCES = {
    "named": lambda net: gb.SharedParameters(net.trunk),
    "found": lambda net: gb.SharedParameters(),
    "together": lambda net: gb.SharedParameters(net.trunk, chunk_size=3),
    "measure": lambda net: gb.SharedParameters(net.trunk, measure=net.trunk[2]),
    "sketch": lambda net: gb.SharedParameters(net.trunk, sketch=211),
    "representation": lambda net: gb.Representation(net.trunk),
}


def moved(net):
    """A copy on the GPU."""
    net = copy.deepcopy(net).cuda()
    net.x, net.y = net.x.cuda(), net.y.cuda()
    return net


def same(one, other, **tolerance):
    if other is None:
        assert one is None
    else:
        torch.testing.assert_close(one.cpu(), other.cpu(), **tolerance)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_three_steps_are_those_on_the_cpu(source, solver):
    on_cpu = Net()
    nets = [on_cpu, moved(on_cpu)]
    balancers = [gb.Balancer(solver(), source(net)) for net in nets]
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in nets]
    for _ in range(3):
        reports = []
        for net, balancer, optimizer in zip(nets, balancers, optimizers, strict=True):
            optimizer.zero_grad()
            balancer(net.losses()).backward()
            reports.append(balancer.report)
            optimizer.step()
        found, right = (grads(net) for net in reversed(nets))
        if source is SOURCES["sketch"]:
            continue  # its random numbers are those of the device
        assert all(p.grad.is_cuda for p in nets[1].parameters())
        for name, gradient in right.items():
            same(found[name], gradient, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(reports[1].weights, reports[0].weights, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blocks_and_one_matrix_agree(dtype, monkeypatch):
    torch.manual_seed(0)
    net = moved(Net().to(dtype))
    net.x, net.y = net.x.to(dtype), net.y.to(dtype)
    found = []
    for largest in (1 << 30, 0):
        monkeypatch.setattr("gradbalance.gradients.matrix._LARGEST", largest)
        net.zero_grad()
        report = gb.Balancer(gb.MGDA(), gb.SharedParameters(net.trunk)).backward(net.losses())
        found.append((report.gram, grads(net)))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-6)
    for name, gradient in found[0][1].items():
        same(found[1][1][name], gradient)


@pytest.mark.parametrize("every", [1, 3])
def test_a_loss_scale_and_autocast(every):
    torch.manual_seed(0)
    net = moved(Net(dtype=torch.float32))
    balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters(net.trunk), every=every)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cuda", init_scale=1024.0)
    for _ in range(4):
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            losses = {name: loss.float() for name, loss in net.losses().items()}
        scaler.scale(balancer(losses)).backward()
        assert balancer.report.weights.sum() == pytest.approx(1.0)
        scaler.step(optimizer)
        scaler.update()
    assert all(torch.isfinite(p).all() for p in net.parameters())


def test_losses_of_two_devices_meet_in_one_report():
    net = moved(Net())
    balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters(net.trunk))
    losses = net.losses()
    expected = balancer.backward(net.losses()).weights
    net.zero_grad()
    losses["task1"] = losses["task1"].cpu()
    report = balancer.backward(losses)
    np.testing.assert_allclose(report.weights, expected, rtol=1e-9)


def test_a_trunk_on_two_devices():
    torch.manual_seed(0)
    below, above = nn.Linear(4, 6).double(), nn.Linear(6, 5).double().cuda()
    heads = [nn.Linear(5, 1).double().cuda() for _ in range(2)]
    z = above(below(torch.randn(8, 4).double()).cuda())
    losses = [head(z).square().mean() for head in heads]
    rows = [
        torch.autograd.grad(loss, [*below.parameters(), *above.parameters()], retain_graph=True)
        for loss in losses
    ]
    flat = torch.stack([torch.cat([g.cpu().flatten() for g in row]) for row in rows])
    report = gb.Balancer(
        gb.MGDA(), gb.SharedParameters([*below.parameters(), *above.parameters()])
    ).backward(losses)
    np.testing.assert_allclose(report.gram, (flat @ flat.T).numpy(), rtol=1e-9)
    assert below.weight.grad.device.type == "cpu"
    assert above.weight.grad.is_cuda


def test_sparse_gradients():
    table = nn.Embedding(1000, 4, sparse=True).cuda()
    losses = [table(torch.arange(i, i + 8, device="cuda")).square().sum() for i in range(2)]
    report = gb.Balancer(gb.MGDA(), gb.SharedParameters(table)).backward(losses)
    assert table.weight.grad.is_sparse
    assert report.gram[0, 1] != 0


def test_a_state_goes_from_the_gpu_to_the_cpu_and_back():
    net = moved(Net())
    balancer = gb.Balancer(gb.GradNorm(), gb.SharedParameters(net.trunk))
    for _ in range(3):
        balancer.backward(net.losses())
    state = balancer.state_dict()
    other_net = Net()
    other = gb.Balancer(gb.GradNorm(), gb.SharedParameters(other_net.trunk))
    other.load_state_dict(state)
    here = other.backward(other_net.losses()).weights
    np.testing.assert_allclose(balancer.backward(net.losses()).weights, here, rtol=1e-6)


def test_a_loss_that_is_not_finite_is_an_error_and_writes_nothing():
    net = moved(Net())
    losses = net.losses()
    losses["task1"] = losses["task1"] * math.nan
    with pytest.raises(ValueError, match="'task1' is not finite"):
        gb.Balancer(gb.MGDA(), gb.SharedParameters(net.trunk)).backward(losses)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
def test_a_step_waits_for_the_gpu_a_fixed_number_of_times():
    """The losses and the Gramian come to the host once each, however many tasks there are."""
    waits = []
    for num_tasks in (2, 8):
        net = moved(Net(num_tasks))
        balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters(net.trunk))
        balancer.backward(net.losses())
        losses = net.losses()
        try:
            torch.cuda.set_sync_debug_mode("warn")
            with pytest.warns(UserWarning, match="synchroniz") as found:
                balancer.backward(losses)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        waits.append(len(found))
    assert waits[0] == waits[1] <= 3


def test_one_process_with_nccl(tmp_path):
    dist.init_process_group("nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        plain, net = moved(Net()), moved(Net())
        expected = gb.Balancer(gb.MGDA(), gb.SharedParameters(plain.trunk)).backward(plain.losses())
        inner = net.trunk
        net.trunk = DistributedDataParallel(inner, device_ids=[0])
        balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters(inner))
        balancer(net.losses()).backward()
        np.testing.assert_allclose(balancer.report.weights, expected.weights, rtol=1e-9)
        right = grads(plain.trunk)
        for name, gradient in grads(inner).items():
            same(gradient, right[name])
    finally:
        dist.destroy_process_group()
