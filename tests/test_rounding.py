"""What rounding hides is called stationary; where it hides nothing, promises hold in `.grad`.

Rows near a stationary point are designed: T = 4 of 1,000 columns that cancel but for a given part
of their length, then rounded to float32.
"""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import gradbalance as gb
from gradbalance.gradients.rounding import rounding_in
from tests.test_balancer import Fixed

# Of every method that promises that no loss rises: one whose status may say that it does not.
PROMISING = {
    "MGDA": gb.MGDA,
    "MGDA-l2": lambda: gb.MGDA(normalization="l2"),
    "UPGrad": gb.UPGrad,
    "DualProj": gb.DualProj,
    "CAGrad-1": lambda: gb.CAGrad(c=1.0),
    "CAGrad-1.5": lambda: gb.CAGrad(c=1.5),
    "NashMTL": gb.NashMTL,
    "FairGrad-2": lambda: gb.FairGrad(alpha=2.0),
    "FairGrad-0.5": lambda: gb.FairGrad(alpha=0.5),
    "ConFIG": gb.ConFIG,
    "IMTLG": gb.IMTLG,
}
EXCUSED = (gb.Status.STATIONARY, gb.Status.ILL_POSED, gb.Status.ASCENT)
promising = pytest.mark.parametrize("make", PROMISING.values(), ids=PROMISING.keys())


def near_stationary(seed, distance, num_columns=1000):
    """Four rows whose combination u is this long, relative to the mean row."""
    rng = np.random.default_rng(seed)
    jac, u = rng.normal(size=(4, num_columns)), rng.uniform(0.1, 1.1, size=4)
    rest = rng.normal(size=num_columns)
    rest *= distance * np.linalg.norm(jac, axis=1).mean() / np.linalg.norm(rest)
    return torch.from_numpy(jac - (u / u.sum()) @ jac + rest).float()


def opposed(seed, num_columns):
    rng = np.random.default_rng(seed)
    row = torch.from_numpy(rng.normal(size=num_columns)).float()
    return torch.stack([row, -float(rng.uniform(0.05, 3.0)) * row])


def step(jac, solver, **options):
    """The report and `.grad`, in float64, of a step with these gradients."""
    parameter = nn.Parameter(torch.zeros(jac.shape[1], dtype=jac.dtype))
    report = gb.Balancer(solver, **options).backward([row @ parameter + 100 for row in jac])
    return report, parameter.grad.double()


def least_cosine(jac, direction):
    rows = jac.double()
    return float((rows @ direction / rows.norm(dim=1) / direction.norm()).min())


@promising
@pytest.mark.parametrize("scale", [None, "norm", "sum"])
def test_no_loss_rises_near_a_stationary_point(make, scale):
    told_apart = 0
    for distance in (1e-7, 1e-6, 1e-5, 1e-4):
        for seed in range(10):
            jac = near_stationary(seed, distance)
            report, direction = step(jac, make(), scale=scale)
            if report.status not in EXCUSED:
                told_apart += 1
                assert least_cosine(jac, direction) >= -1e-6, (distance, seed, report)
                found = (jac.double() @ direction).numpy()
                # What is written is rounded to float32, and no more.
                slack = 1e-6 * report.norms * float(direction.norm())
                assert (np.abs(found - report.descent) <= slack).all(), (distance, seed, report)
    assert told_apart == 30, "1e-6 of the rows' length can be told from zero, 1e-7 cannot"


@promising
@pytest.mark.parametrize("scale", [None, "norm", "sum"])
@pytest.mark.parametrize("num_columns", [2, 10, 100])
def test_opposed_gradients_are_stationary(make, scale, num_columns):
    for seed in range(10):
        jac = opposed(seed, num_columns)
        report, direction = step(jac, make(), scale=scale)
        assert report.status is gb.Status.STATIONARY, report
        assert direction.norm() <= 1e-6 * jac.double().norm(dim=1).sum()


@pytest.mark.parametrize("make", [gb.PCGrad, gb.GradVac], ids=lambda make: make.__name__)
@pytest.mark.parametrize("scale", [None, "norm", "sum"])
def test_projections_that_cancel_are_not_stretched(make, scale):
    for seed in range(10):
        jac = opposed(seed, 20)
        report, direction = step(jac, make(), scale=scale)
        assert report.status is gb.Status.STATIONARY, report
        assert direction.norm() <= 1e-6 * jac.double().norm(dim=1).sum()


def test_a_plain_sum_that_cancels_is_stationary_and_keeps_its_weights():
    row = torch.randn(10)
    report, _ = step(torch.stack([row, -row]), gb.Uniform(), source=gb.SharedParameters())
    assert report.status is gb.Status.STATIONARY
    assert report.weights.tolist() == [1.0, 1.0]


def adversarial(net, dtype=torch.float32):
    """A loss, and -0.37 times the same: what a domain classifier and its adversary have."""
    torch.manual_seed(0)
    x, labels = torch.randn(128, 32), torch.randint(2, (128,))
    loss = nn.functional.cross_entropy(net(x.to(dtype)), labels)
    return [loss, -0.37 * loss]


def small_net(dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    layers = nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2)
    return nn.Sequential(*layers).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", [gb.NashMTL, lambda: gb.FairGrad(alpha=2.0)])
def test_weights_stay_bounded_where_losses_oppose_each_other(make, dtype):
    net = small_net(dtype)
    report = gb.Balancer(make()).backward(adversarial(net, dtype))
    assert report.status is gb.Status.STATIONARY
    assert report.weights @ report.norms == pytest.approx(2.0)
    written = torch.cat([p.grad.flatten() for p in net.parameters()]).norm()
    assert written <= 1e-6 * 2.0  # the length of its parts


# How many units of its dtype a direction may be long, relative to its parts, and be but rounding.


def cancelling(net, cast=None, weight=-0.37, seed=0):
    """Two opposed losses by different ways: a mean, and two halves of a shuffled batch."""
    torch.manual_seed(100 + seed)
    dtype = next(net.parameters()).dtype
    x, labels = torch.randn(64, 32).to(dtype), torch.randint(2, (64,))
    order = torch.randperm(64)
    with torch.autocast("cpu", cast or torch.bfloat16, enabled=cast is not None):
        one = nn.functional.cross_entropy(net(x).float(), labels)
        halves = [
            nn.functional.cross_entropy(net(x[i]).float(), labels[i]) for i in order.split(32)
        ]
    return [one, weight * (halves[0] + halves[1]) / 2]


def units_left(net, losses, unit):
    parameters = list(net.parameters())
    rows = [
        torch.cat([g.double().flatten() for g in torch.autograd.grad(x, parameters)])
        for x in losses
    ]
    jac = torch.stack(rows)
    weights = gb.MGDA().solve(gb.Problem.of(jac @ jac.T)).weights
    parts = torch.from_numpy(weights) @ jac.norm(dim=1)
    return float((torch.from_numpy(weights) @ jac).norm() / parts) / unit


@pytest.mark.parametrize(
    ("dtype", "cast"),
    [(torch.float32, None), (torch.bfloat16, None), (torch.float32, torch.bfloat16)],
    ids=["float32", "bfloat16", "autocast"],
)
def test_rounding_leaves_a_few_units_of_the_coarsest_dtype(dtype, cast):
    coarsest = cast or dtype
    unit = torch.finfo(coarsest).eps
    nets = [small_net(dtype, seed) for seed in range(10)]
    left = [units_left(net, cancelling(net, cast, seed=i), unit) for i, net in enumerate(nets)]
    allowed = rounding_in(coarsest) / unit
    assert max(left) <= allowed, left
    assert max(left) > allowed / 100, "the bound is far too wide"


@pytest.mark.parametrize("source", [None, "measure", "sketch", "named"])
@pytest.mark.parametrize(
    ("dtype", "cast"),
    [(torch.float32, None), (torch.bfloat16, None), (torch.float32, torch.bfloat16)],
    ids=["float32", "bfloat16", "autocast"],
)
def test_losses_that_oppose_each_other_by_two_ways_are_stationary(dtype, cast, source):
    for seed in range(5):
        net = small_net(dtype, seed)
        sources = {
            "measure": lambda net=net: gb.SharedParameters(net, measure=net[2]),
            "sketch": lambda net=net: gb.SharedParameters(net, sketch=500),
            "named": lambda net=net: gb.SharedParameters(net),
        }
        balancer = gb.Balancer(gb.UPGrad(), sources[source]() if source else None)
        report = balancer.backward(cancelling(net, cast, seed=seed))
        assert report.status is gb.Status.STATIONARY, report


def test_micro_batches_remember_how_coarse_the_first_one_was():
    net = small_net()
    balancer = gb.Balancer(gb.UPGrad())
    balancer.accumulate(cancelling(net, torch.bfloat16))
    assert balancer.backward(cancelling(net)).status is gb.Status.STATIONARY


def test_double_precision_tells_what_single_precision_cannot():
    jac = near_stationary(0, 1e-7).double()
    report, direction = step(jac, gb.MGDA())
    assert report.status is gb.Status.CONVERGED
    assert least_cosine(jac, direction) > 0


# One scale for all methods.


def test_the_sum_of_weights_of_both_signs_is_taken_over_their_sizes():
    problem = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    report, _ = step(problem, Fixed([1.0, -0.99]), scale="sum")
    assert report.weights == pytest.approx(np.array([1.0, -0.99]) * 2 / 1.99)


def test_ill_posed_weights_stay_as_their_solver_bounded_them():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0]])  # dependent: no equal projections
    plain, _ = step(rows, gb.IMTLG())
    scaled, _ = step(rows, gb.IMTLG(), scale="sum")
    assert plain.status is scaled.status is gb.Status.ILL_POSED
    assert scaled.weights == pytest.approx(plain.weights)


# Weights that pass through losses of low precision.

WEIGHTS = [1.0 + 2.0**-9, 1.0 - 3 * 2.0**-11]  # which bfloat16 cannot hold


class OfLosses(Fixed):
    needs = "losses"
    weighs = "losses"


def through_losses(z):
    return {
        "losses": gb.LossesOnly(),
        "rows": gb.SharedParameters(z),
        "measure": gb.SharedParameters(z, measure=z),
        "sketch": gb.SharedParameters(z, sketch=50),
        "representation": gb.Representation(),
    }


@pytest.mark.filterwarnings("ignore:the gradients of '0' and '1' meet in no entry")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("heads", ["weighted", "raw"])
@pytest.mark.parametrize("name", ["losses", "rows", "measure", "sketch", "representation"])
def test_the_weights_that_are_reported_are_those_that_act(name, heads, dtype):
    if (name, heads) == ("losses", "raw"):
        return
    parameter = nn.Parameter(torch.ones(2))
    z = parameter * 1.0
    options = {"representation": z} if name == "representation" else {}
    source = through_losses(parameter)[name]
    balancer = gb.Balancer(OfLosses(WEIGHTS), source, heads=heads)
    report = balancer.backward([z[0].to(dtype), z[1].to(dtype)], **options)
    assert parameter.grad.tolist() == pytest.approx(report.weights.tolist(), rel=1e-7)
    if name in ("rows", "representation"):
        assert report.weights.tolist() == WEIGHTS


def test_reused_weights_are_those_that_act():
    parameter = nn.Parameter(torch.ones(2))
    balancer = gb.Balancer(Fixed(WEIGHTS), gb.SharedParameters(parameter), every=2)
    for _ in range(2):
        parameter.grad = None
        report = balancer.backward([x.to(torch.bfloat16) for x in (parameter * 1.0).unbind()])
    assert report.status is gb.Status.REUSED
    assert parameter.grad.tolist() == pytest.approx(report.weights.tolist(), rel=1e-7)


@pytest.mark.parametrize(
    ("dtype", "weight"), [(torch.float16, 1e5), (torch.float32, 1e42), (torch.bfloat16, 1e39)]
)
@pytest.mark.parametrize("name", ["losses", "measure", "sketch"])
def test_a_weight_that_the_loss_cannot_carry_is_refused(name, dtype, weight):
    parameter = nn.Parameter(torch.ones(2))
    losses = [x.to(dtype) for x in (parameter * 1.0).unbind()]
    balancer = gb.Balancer(OfLosses([weight, 1.0]), through_losses(parameter)[name])
    before = copy.deepcopy(balancer.get_extra_state())
    with pytest.raises(ValueError, match=r"the weight 1e\+\d+ of task '0' is more than its loss"):
        balancer.backward(losses)
    assert parameter.grad is None
    assert torch.equal(balancer.get_extra_state(), before)


def test_a_weight_that_rows_can_carry_is_not():
    parameter = nn.Parameter(torch.full([2], 1e-21))
    losses = [x.square() for x in parameter.unbind()]
    report = gb.Balancer(Fixed([1e42, 1.0]), gb.SharedParameters(parameter)).backward(losses)
    assert report.weights.tolist() == [1e42, 1.0]
    assert parameter.grad.tolist() == pytest.approx([2e21, 2e-21], rel=1e-5)


def test_a_loss_scale_that_makes_a_weight_infinite_is_left_for_the_scaler_to_lower():
    parameter = nn.Parameter(torch.ones(2))
    losses = [x.to(torch.float16) for x in (parameter * 1.0).unbind()]
    balancer = gb.Balancer(OfLosses([100.0, 1.0]), gb.LossesOnly())
    (1024.0 * balancer(losses)).backward()
    assert balancer.report.status is gb.Status.SKIPPED
    assert not torch.isfinite(parameter.grad).all()
