"""Autocast, and the loss scale of a `GradScaler`: unscaled in reports, scaled in `.grad`."""

import pytest
import torch
from torch import nn

import gradbalance as gb
from tests.models import Net, grads
from tests.test_balancer import sources


def scaler_of(scale=1024.0):
    return torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)


def scaled(balancer, losses, scaler, **options):
    scaler.scale(balancer(losses, **options)).backward()
    return balancer.report


def report_values(report):
    return [report.losses, report.weights, report.gram, report.status]


@pytest.mark.parametrize("solver", [gb.MGDA, gb.PCGrad, gb.GradNorm, gb.Uniform])
@sources
def test_a_scaled_step_is_the_plain_one(source, solver):
    model, plain = Net(), Net()
    balancer, expected = (gb.Balancer(solver(), source(net)) for net in (model, plain))
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (model, plain)]
    scaler = scaler_of()
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
        report = scaled(balancer, model.losses(), scaler)
        reference = expected.backward(plain.losses())
        for name, gradient in grads(plain).items():
            if gradient is not None:
                torch.testing.assert_close(grads(model)[name], 1024 * gradient)
        for found, right in zip(report_values(report), report_values(reference), strict=True):
            assert found == (right if right is None else pytest.approx(right))
        scaler.step(optimizers[0])
        scaler.update()
        optimizers[1].step()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def overflowing(model):
    """Losses whose gradients are finite, but not 1e30 times them in float32."""
    return {name: loss.float() * 1e12 for name, loss in model.losses().items()}


@pytest.mark.parametrize("solver", [gb.MGDA, gb.GradNorm, gb.FAMO, gb.DWA, gb.Uniform])
@sources
def test_an_overflow_is_left_for_the_scaler_and_changes_no_state(source, solver):
    model = Net(dtype=torch.float32)
    balancer = gb.Balancer(solver(), source(model), tasks=["task0", "task1", "task2"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = scaler_of(1e30)
    before = balancer.get_extra_state()
    parameters = [p.clone() for p in model.parameters()]
    report = scaled(balancer, overflowing(model), scaler)
    assert report.status is gb.Status.SKIPPED
    assert report.weights.tolist() == [0.0, 0.0, 0.0]
    assert "overflowed at this loss scale" in str(report)
    assert torch.equal(balancer.get_extra_state(), before)
    scaler.step(optimizer)
    scaler.update()
    assert all(map(torch.equal, parameters, model.parameters()))
    assert scaler.get_scale() == pytest.approx(0.5e30)
    with torch.no_grad():
        balancer.after_step(model.losses())
    assert torch.equal(balancer.get_extra_state(), before)


def test_steps_that_overflow_at_first_calibrate_the_scale():
    model = Net(dtype=torch.float32)
    balancer = gb.Balancer(gb.GradNorm(), gb.SharedParameters(model.trunk))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-7)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-20)
    statuses = []
    for _ in range(8):
        optimizer.zero_grad()
        losses = {name: 1e4 * loss for name, loss in model.losses().items()}
        statuses.append(scaled(balancer, losses, scaler).status)
        scaler.step(optimizer)
        scaler.update()
    skipped = statuses.count(gb.Status.SKIPPED)
    assert 1 <= skipped <= 6
    assert statuses == [gb.Status.SKIPPED] * skipped + [gb.Status.CONVERGED] * (8 - skipped)
    plain = Net(dtype=torch.float32)
    expected = gb.Balancer(gb.GradNorm(), gb.SharedParameters(plain.trunk))
    optimizer = torch.optim.SGD(plain.parameters(), lr=1e-7)
    for _ in range(8 - skipped):
        optimizer.zero_grad()
        expected.backward({name: 1e4 * loss for name, loss in plain.losses().items()})
        optimizer.step()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)


class OnlyTheTrunkOverflows(nn.Module):
    """Gradients that are finite at the representation, and not behind it."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(2, 2, bias=False)

    def losses(self):
        z = self.trunk(torch.full((1, 2), 1e20))
        return z, [z[0, 0].abs() * 1e-18, z.abs().sum() * 1e-18]


def test_an_overflow_behind_what_is_measured_is_noticed():
    model = OnlyTheTrunkOverflows()
    balancer = gb.Balancer(gb.GradNorm(), gb.Representation(), tasks=["0", "1"])
    before = balancer.get_extra_state()
    z, losses = model.losses()
    report = scaled(balancer, losses, scaler_of(1e38), representation=z)
    assert report.status is gb.Status.SKIPPED
    assert torch.equal(balancer.get_extra_state(), before)
    assert not torch.isfinite(model.trunk.weight.grad).all()


def test_a_loss_that_is_not_finite_is_no_overflow():
    model = Net()

    def losses():
        return model.losses() | {"task1": model.losses()["task1"] * torch.nan}

    with pytest.raises(ValueError, match="loss of task 'task1' is not finite"):
        scaled(gb.Balancer(gb.MGDA()), losses(), scaler_of())
    assert set(grads(model).values()) == {None}
    report = scaled(gb.Balancer(gb.MGDA(), nonfinite="skip"), losses(), scaler_of())
    assert report.status is gb.Status.CONVERGED
    assert report.left_out == {"task1": "not finite"}


def test_a_scaler_that_is_disabled_changes_nothing():
    model, plain = Net(), Net()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    scaled(gb.Balancer(gb.MGDA()), model.losses(), scaler)
    gb.Balancer(gb.MGDA()).backward(plain.losses())
    for name, gradient in grads(plain).items():
        assert torch.equal(grads(model)[name], gradient)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@sources
def test_training_under_autocast(source, dtype):
    model, plain = Net(dtype=torch.float32), Net(dtype=torch.float32)
    scaler = scaler_of(256.0)
    balancer = gb.Balancer(gb.MGDA(normalization="l2"), source(model))
    with torch.autocast("cpu", dtype=dtype):
        losses = model.losses()
    report = scaled(balancer, losses, scaler)
    exact = gb.Balancer(gb.MGDA(normalization="l2"), source(plain)).measure(plain.losses())
    if exact.gram is not None:
        assert report.weights == pytest.approx(exact.weights, rel=0.1)
        assert report.norms == pytest.approx(exact.norms, rel=0.05)
    for name, gradient in grads(model).items():
        assert gradient is None or gradient.dtype == torch.float32, name
    scaler.step(torch.optim.SGD(model.parameters(), lr=0.1))


@pytest.mark.parametrize("factor", [1.0, 1024.0])
def test_a_loss_that_is_not_finite_keeps_the_others_of_its_chunk(factor):
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    losses = [weight[0] * 3, (weight[1] * 2).square() * float("nan"), weight[1]]
    source = gb.SharedParameters(weight, chunk_size=2)
    balancer = gb.Balancer(gb.Uniform(), source, nonfinite="skip")
    measured = balancer.measure(losses)
    (factor * balancer(losses)).backward()
    assert measured.left_out == balancer.report.left_out == {"1": "not finite"}
    assert weight.grad.tolist() == [3 * factor, factor]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gramians_of_low_precision_rows_are_summed_wide(dtype):
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(3000, dtype=dtype))
    inputs = torch.randn(2, 3000, dtype=dtype)
    losses = [(weight * x).sum() for x in inputs]
    report = gb.Balancer(gb.MGDA(), gb.SharedParameters([weight])).measure(losses)
    assert report.gram == pytest.approx((inputs.double() @ inputs.double().T).numpy(), rel=1e-12)
