"""What the tasks share is found from the graph, or an error says to name it."""

import pytest
import torch

import gradbalance as gb
from tests.models import Net


def gramian_of(model, source=None, losses=None):
    return gb.Balancer(gb.MGDA(), source).measure(losses or model.losses()).gram


def test_found_equals_named():
    model = Net()
    assert gramian_of(model) == pytest.approx(gramian_of(model, gb.SharedParameters(model.trunk)))


def test_a_shared_parameter_stays_shared_while_tasks_are_absent():
    model = Net()
    source = gb.SharedParameters()
    balancer = gb.Balancer(gb.MGDA(), source)
    full = balancer.backward(model.losses())
    alone = balancer.backward({"task1": model.losses()["task1"]})
    assert alone.norms[1] == pytest.approx(full.norms[1])


def test_what_two_tasks_share_stays_shared_while_one_of_them_is_absent():
    trunk, pair = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))

    def losses():
        return [(trunk + pair).sum(), (trunk + 3 * pair).sum(), 2 * trunk.sum()]

    balancer = gb.Balancer(gb.MGDA())
    full = balancer.backward(losses())
    assert full.norms[1] == pytest.approx(20**0.5)
    without = balancer.backward([None, *losses()[1:]])
    assert without.norms[1] == pytest.approx(full.norms[1])


def test_with_one_task_all_its_parameters_count():
    model = Net(num_tasks=1)
    report = gb.Balancer(gb.MGDA()).backward(model.losses())
    total = sum(p.grad.square().sum() for p in model.parameters()).sqrt()
    assert report.norms[0] == pytest.approx(total.item())
    assert report.weights.tolist() == [1.0]


def test_a_first_step_that_lacks_tasks_is_refused():
    model = Net()
    balancer = gb.Balancer(gb.MGDA(), tasks=["task0", "task1", "task2"])
    with pytest.raises(ValueError, match=r"at a step that lacks tasks.*Name it"):
        balancer.backward({"task0": model.losses()["task0"]})
    assert all(p.grad is None for p in model.parameters())
    report = balancer.backward(model.losses())
    assert report.gram == pytest.approx(gramian_of(Net()))


def test_a_task_apart_can_be_the_only_one_present():
    model = Net()
    apart = torch.nn.Parameter(torch.ones(2))
    balancer = gb.Balancer(gb.MGDA())
    balancer.backward(model.losses() | {"apart": apart.sum()})
    assert apart.grad.tolist() == [1.0, 1.0]  # as a head
    report = balancer.backward({"apart": apart.sum()})
    assert apart.grad.tolist() == [2.0, 2.0]
    assert report.norms[3] == pytest.approx(2**0.5)


def test_losses_that_share_nothing():
    a, b = (torch.ones(1, requires_grad=True) for _ in range(2))
    with pytest.raises(ValueError, match="share no parameter"):
        gb.Balancer(gb.MGDA()).backward([a.sum(), b.sum()])
    assert a.grad is None


def test_named_parameters_that_no_loss_reaches():
    model = Net()
    source = gb.SharedParameters(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="no loss reaches"):
        gb.Balancer(gb.MGDA(), source).backward(model.losses())


def test_measure_must_be_shared():
    model = Net()
    source = gb.SharedParameters(model.trunk, measure=model.heads[0])
    with pytest.raises(ValueError, match="measure must be parameters that the tasks share"):
        gb.Balancer(gb.MGDA(), source).backward(model.losses())


def test_frozen_parameters_are_left_out_of_what_is_measured():
    model = Net()
    model.trunk[-1].bias.requires_grad_(False)
    module = gb.SharedParameters(model.trunk, measure=model.trunk[-1])
    weight = gb.SharedParameters(model.trunk, measure=model.trunk[-1].weight)
    assert gramian_of(model, module) == pytest.approx(gramian_of(model, weight))
    model.trunk[-1].requires_grad_(False)
    with pytest.raises(ValueError, match=r"require gradients; found none"):
        gramian_of(model, module)


def test_parameters_that_are_given_twice_count_once():
    model = Net()
    twice = [model.trunk, model.trunk[0].weight, model.trunk[-1]]
    once = gramian_of(model, gb.SharedParameters(model.trunk))
    assert gramian_of(model, gb.SharedParameters(twice)) == pytest.approx(once)
    measured = gb.SharedParameters(model.trunk, measure=twice)
    assert gramian_of(model, measured) == pytest.approx(once)


@pytest.mark.parametrize("given", [[], "trunk", torch.nn.Tanh(), [None]])
def test_what_is_no_parameter_is_refused(given):
    with pytest.raises(ValueError, match="must be a module or parameters"):
        gb.SharedParameters(given)


@pytest.mark.parametrize(
    "cut",
    [
        lambda losses: torch.stack(losses),
        lambda losses: list(torch.stack(losses)),
        lambda losses: list((2 * torch.stack(losses)).unbind()),
        lambda losses: [part.squeeze() for part in torch.stack(losses).split(1)],
    ],
    ids=["tensor", "select", "unbind", "split"],
)
def test_losses_cut_from_one_tensor(cut):
    model = Net()
    losses = cut(list(model.losses().values()))
    with pytest.raises(ValueError, match=r"cut from one tensor.*SharedParameters\(model\.trunk\)"):
        gb.Balancer(gb.MGDA()).backward(losses)
    named = gb.Balancer(gb.MGDA(), gb.SharedParameters(model.trunk)).measure(losses)
    scale = 4.0 if named.losses[0] > 1.5 * model.losses()["task0"].item() else 1.0
    assert named.gram == pytest.approx(scale * gramian_of(model))


def test_losses_on_entries_of_one_output_are_not_hidden():
    linear = torch.nn.Linear(3, 2)
    y = linear(torch.ones(4, 3))
    report = gb.Balancer(gb.MGDA()).backward([y[:, 0].square().mean(), y[:, 1].square().mean()])
    assert report.gram[0, 1] == 0.0


def test_a_ddp_sink_hides():
    # DDP with find_unused_parameters passes all outputs through one node of this name.
    class _DDPSink(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *outputs):
            return tuple(output.clone() for output in outputs)

        @staticmethod
        def backward(ctx, *gradients):
            return gradients

    model = Net()
    losses = list(_DDPSink.apply(*model.losses().values()))
    with pytest.raises(ValueError, match=r"DDPSink.*SharedParameters\(model\.trunk\)"):
        gb.Balancer(gb.MGDA()).backward(losses)
