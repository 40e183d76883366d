"""Micro-batches: one step of summed rows is the step of the whole batch."""

import pytest
import torch
from torch import nn

import gradbalance as gb
from tests.gradients.test_accumulation import assert_equal_gradients
from tests.models import Net, grads


def part(model, rows, tasks=None):
    """The share of the losses that some of the eight rows of the batch have."""
    z = model.trunk(model.x[rows])
    losses = {
        f"task{i}": (head(z) - y[rows]).square().sum() / 8
        for i, (head, y) in enumerate(zip(model.heads, model.y, strict=True))
    }
    return losses if tasks is None else {name: losses[name] for name in tasks}


MICRO_BATCHES = (slice(0, 3), slice(3, 4), slice(4, 8))


@pytest.mark.parametrize("heads", ["raw", "weighted"])
@pytest.mark.parametrize("solver", [gb.MGDA, gb.PCGrad, gb.GradNorm, gb.FAMO])
@pytest.mark.parametrize("source", [gb.SharedParameters, lambda: gb.SharedParameters(chunk_size=3)])
def test_micro_batches_make_the_step_of_the_whole_batch(source, solver, heads):
    model, whole = Net(), Net()
    balancer = gb.Balancer(solver(), source(), heads=heads)
    expected = gb.Balancer(solver(), source(), heads=heads)
    # A step: what FAMO makes of losses that change by nothing but rounding is noise.
    optimizers = [torch.optim.SGD(net.parameters(), lr=1e-3) for net in (model, whole)]
    for _ in range(2):
        for rows in MICRO_BATCHES[:-1]:
            before = grads(model)
            balancer.accumulate(part(model, rows))
            for name, gradient in grads(model).items():
                assert gradient is before[name] or torch.equal(gradient, before[name])
        report = balancer.backward(part(model, MICRO_BATCHES[-1]))
        reference = expected.backward(whole.losses())
        assert report.losses == pytest.approx(reference.losses)
        assert report.gram == pytest.approx(reference.gram)
        assert report.weights == pytest.approx(reference.weights)
        assert_equal_gradients(model, whole)  # added to those of the step before
        for optimizer in optimizers:
            optimizer.step()
        for each, net in ((balancer, model), (expected, whole)):
            each.after_step(net.losses())


def test_tasks_can_be_missing_in_some_of_them():
    model, whole = Net(), Net()
    balancer = gb.Balancer(gb.MGDA(), tasks=["task0", "task1", "task2"])
    balancer.accumulate(part(model, slice(0, 4), ["task2", "task1"]))
    balancer.accumulate(part(model, slice(4, 6), ["task0"]))
    report = balancer.backward(part(model, slice(6, 8), ["task1"]))
    first, second, third = (part(whole, rows) for rows in (slice(0, 4), slice(4, 6), slice(6, 8)))
    losses = {"task0": second["task0"], "task1": first["task1"] + third["task1"]}
    expected = gb.Balancer(gb.MGDA(), gb.SharedParameters(whole.trunk)).backward(
        {**losses, "task2": first["task2"]}
    )
    assert report.gram == pytest.approx(expected.gram)
    assert report.weights == pytest.approx(expected.weights)
    assert_equal_gradients(model, whole)


def test_groups_and_parameters_can_be_missing_in_some_of_them():
    class TwoPaths(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.low, self.high = nn.Linear(3, 2), nn.Linear(2, 2)
            self.heads = nn.ModuleList([nn.Linear(2, 1), nn.Linear(2, 1)])
            self.x = torch.randn(6, 3)

        def losses(self, rows, *, high):
            z = self.low(self.x[rows])
            z = self.high(z) if high else z
            return [head(z).square().sum() for head in self.heads]

    model, whole = TwoPaths(), TwoPaths()
    groups = {"low": model.low, "high": model.high}
    balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters(groups))
    balancer.accumulate(model.losses(slice(0, 2), high=False))
    report = balancer.backward(model.losses(slice(2, 6), high=True))
    first, second = (whole.losses(slice(0, 2), high=False), whole.losses(slice(2, 6), high=True))
    both = zip(first, second, strict=True)
    source = gb.SharedParameters({"low": whole.low, "high": whole.high})
    expected = gb.Balancer(gb.MGDA(), source).backward([a + b for a, b in both])
    assert report.gram == pytest.approx(expected.gram, rel=1e-5)
    for name, gradient in grads(whole).items():
        torch.testing.assert_close(grads(model)[name], gradient)


def test_gradients_that_autograd_gave_out_twice_are_not_changed():
    a, b = (nn.Parameter(torch.tensor([1.0, 2.0])) for _ in range(2))

    def losses(scale):
        both = (a + b) * scale  # one tensor is the gradient of either
        return [both.sum(), both.square().sum()]

    balancer = gb.Balancer(gb.Uniform(), gb.SharedParameters([a, b]))
    balancer.accumulate(losses(1.0))
    balancer.accumulate(losses(2.0))
    balancer.backward(losses(3.0))
    expected = torch.autograd.grad(sum(sum(losses(s)) for s in (1.0, 2.0, 3.0)), [a, b])
    torch.testing.assert_close([a.grad, b.grad], list(expected))


def test_it_goes_with_a_scaler():
    model, whole = Net(), Net()
    balancer = gb.Balancer(gb.MGDA())
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    balancer.accumulate(part(model, slice(0, 3)), loss_scale=scaler.get_scale())
    scaler.scale(balancer(part(model, slice(3, 8)))).backward()
    report = balancer.report
    reference = gb.Balancer(gb.MGDA()).backward(whole.losses())
    assert report.weights == pytest.approx(reference.weights)
    for name, gradient in grads(whole).items():
        torch.testing.assert_close(grads(model)[name], 64 * gradient)


def test_what_was_accumulated_is_solved_whatever_every_says():
    model = Net()
    balancer = gb.Balancer(gb.MGDA(), every=10)
    balancer.backward(model.losses())
    assert balancer.backward(model.losses()).status is gb.Status.REUSED
    balancer.accumulate(part(model, slice(0, 3)))
    assert balancer.backward(part(model, slice(3, 8))).status is gb.Status.CONVERGED
    assert balancer.backward(model.losses()).status is gb.Status.REUSED


def test_measuring_leaves_it_alone():
    model, whole = Net(), Net()
    balancer = gb.Balancer(gb.MGDA())
    balancer.accumulate(part(model, slice(0, 3)))
    balancer.measure(model.losses())
    report = balancer.backward(part(model, slice(3, 8)))
    assert report.gram == pytest.approx(gb.Balancer(gb.MGDA()).measure(whole.losses()).gram)


def test_bad_input_keeps_it_and_a_refused_step_drops_it():
    model, whole = Net(), Net()
    balancer = gb.Balancer(gb.MGDA())
    balancer.accumulate(part(model, slice(0, 3)))
    for call in (balancer.accumulate, balancer.backward):
        with pytest.raises(ValueError, match="must have one element"):
            call({**part(model, slice(3, 8)), "task1": model.x})
    report = balancer.backward(part(model, slice(3, 8)))
    whole_report = gb.Balancer(gb.MGDA()).measure(whole.losses())
    assert report.gram == pytest.approx(whole_report.gram)
    balancer.accumulate({k: v * torch.nan for k, v in part(model, slice(0, 3)).items()})
    with pytest.raises(ValueError, match="not finite"):
        balancer.backward(part(model, slice(3, 8)))
    assert balancer.backward(model.losses()).gram == pytest.approx(whole_report.gram)


def test_a_representation_cannot_be_accumulated():
    model = Net()
    balancer = gb.Balancer(gb.Uniform(), gb.Representation(model.trunk))
    losses = model.losses()
    with pytest.raises(ValueError, match="a balanced step for each micro-batch instead"):
        balancer.accumulate(losses)
    assert set(grads(model).values()) == {None}
    balancer.backward(losses)


SOURCES_OF_LOSSES = {
    "losses": lambda model: gb.LossesOnly(),
    "measured": lambda model: gb.SharedParameters(model.trunk, measure=model.trunk[-1]),
    "sketched": lambda model: gb.SharedParameters(model.trunk, sketch=37),
}


@pytest.mark.parametrize("source", SOURCES_OF_LOSSES.values(), ids=SOURCES_OF_LOSSES.keys())
def test_sources_that_keep_no_rows_accumulate_too(source):
    model, whole = Net(), Net()
    solver = gb.UW if source is SOURCES_OF_LOSSES["losses"] else gb.GradNorm
    balancer, reference = (gb.Balancer(solver(), source(m)) for m in (model, whole))
    for _ in range(2):
        model.zero_grad(), whole.zero_grad()
        balancer.accumulate(part(model, slice(0, 3)))
        report = balancer.backward(part(model, slice(3, 8)))
        expected = reference.backward(whole.losses())
        assert report.weights == pytest.approx(expected.weights)
        for name, gradient in grads(whole).items():
            torch.testing.assert_close(grads(model)[name], gradient)


def test_famo_goes_with_micro_batches():
    model, whole = Net(), Net()
    balancers = [gb.Balancer(gb.FAMO()) for _ in range(2)]
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, whole)]
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
        balancers[0].accumulate(part(model, slice(0, 3)))
        balancers[0](part(model, slice(3, 8))).backward()
        balancers[1](whole.losses()).backward()
        for net, balancer, optimizer in zip((model, whole), balancers, optimizers, strict=True):
            optimizer.step()
            balancer.after_step(net.losses())
        assert balancers[0].report.weights == pytest.approx(balancers[1].report.weights)


def test_one_data_set_a_task_leaves_heads_alone():
    model, whole = Net(num_tasks=2), Net(num_tasks=2)
    names = list(model.losses())
    balancer = gb.Balancer(gb.MGDA(), tasks=names)
    balancer.accumulate({names[0]: model.losses()[names[0]]})
    balancer({names[1]: model.losses()[names[1]]}).backward()
    expected = gb.Balancer(gb.MGDA()).backward(whole.losses())
    assert balancer.report.gram == pytest.approx(expected.gram)
    for name, gradient in grads(whole).items():
        torch.testing.assert_close(grads(model)[name], gradient)
