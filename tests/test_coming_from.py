"""The loops in docs/coming-from.md give the same gradients as the loops for other libraries.

TorchJD is called where it is installed. Of the other codes, which are no packages, the rules are
written down here once more, and the page's loops run on these.
"""

import inspect
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor, nn

import gradbalance as gb

PAGE = (Path(__file__).parents[1] / "docs" / "coming-from.md").read_text()
ROUNDING = 1e-11


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


class TorchJD(NamedTuple):
    aggregation: Any
    autogram: Any
    autojac: Any
    linalg: Any
    scalarization: Any


@pytest.fixture
def torchjd() -> TorchJD:
    pytest.importorskip("torchjd")
    return TorchJD(*(pytest.importorskip(f"torchjd.{name}") for name in TorchJD._fields))


class Net(NamedTuple):
    trunk: nn.Module
    heads: nn.ModuleList
    losses: Callable[[], tuple[Tensor, list[Tensor]]]  # the trunk's output, and a loss a task

    def parameters(self) -> list[Tensor]:
        return [*self.trunk.parameters(), *self.heads.parameters()]

    def step(self) -> None:
        """One of gradient descent, which also lets go of the gradients."""
        with torch.no_grad():
            for parameter in self.parameters():
                assert parameter.grad is not None
                parameter -= 0.05 * parameter.grad
                parameter.grad = None


def a_net(seed: int, num_tasks: int) -> Net:
    """A trunk with heads, whose gradients are of different lengths, and conflict."""
    torch.manual_seed(seed)
    trunk = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
    heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(num_tasks))
    x, y = torch.randn(32, 6), torch.randn(32, num_tasks)
    units = [1.0, 3.0, 0.3, 2.0]

    def losses() -> tuple[Tensor, list[Tensor]]:
        z = trunk(x)
        gaps = [(head(z)[:, 0] - y[:, i] - x[:, i]) for i, head in enumerate(heads)]
        return z, [unit * gap.square().mean() for unit, gap in zip(units, gaps, strict=False)]

    return Net(trunk, heads, losses)


def flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def gradient(parameters: Iterable[Tensor]) -> Tensor:
    return flat([parameter.grad for parameter in parameters if parameter.grad is not None]).clone()


def rows_of(losses: Iterable[Tensor], parameters: Iterable[Tensor]) -> Tensor:
    """J [T, P]."""
    given = list(parameters)
    return torch.stack([flat(torch.autograd.grad(i, given, retain_graph=True)) for i in losses])


def distance(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


# TorchJD: aggregators. Where the method is random, or an iteration stops early, T = 2.


class Case(NamedTuple):
    aggregator: Callable[[TorchJD], Any]
    solver: Callable[[int], gb.Solver]
    num_tasks: tuple[int, ...] = (2, 3)
    tolerance: float = ROUNDING
    needs: tuple[str, ...] = ()


def exact(torchjd: TorchJD) -> Any:
    """Its projection without what it adds to the Gramian."""
    pytest.importorskip("quadprog")
    return torchjd.linalg.QuadprogProjector(norm_eps=0.0, reg_eps=0.0)


CASES = {
    "UPGrad": Case(lambda t: t.aggregation.UPGrad(projector=exact(t)), lambda n: gb.UPGrad()),
    "UPGrad with preferences": Case(
        lambda t: t.aggregation.UPGrad(torch.tensor([0.75, 0.25]), projector=exact(t)),
        lambda n: gb.UPGrad(preferences=[3.0, 1.0]),
        num_tasks=(2,),
    ),
    "DualProj": Case(lambda t: t.aggregation.DualProj(projector=exact(t)), lambda n: gb.DualProj()),
    "MGDA": Case(lambda t: t.aggregation.MGDA(), lambda n: gb.MGDA(), num_tasks=(2,)),
    "MGDA iterated": Case(
        lambda t: t.aggregation.MGDA(epsilon=1e-12, max_iters=20_000),
        lambda n: gb.MGDA(),
        num_tasks=(3,),
        tolerance=1e-4,
    ),
    "PCGrad": Case(lambda t: t.aggregation.PCGrad(), lambda n: gb.PCGrad(), num_tasks=(2,)),
    "GradVac": Case(
        lambda t: t.aggregation.GradVac(beta=0.5, eps=0.0),
        lambda n: gb.GradVac(beta=0.5),
        num_tasks=(2,),
    ),
    "CAGrad": Case(
        lambda t: t.aggregation.CAGrad(c=0.5),
        lambda n: gb.CAGrad(c=0.5),
        tolerance=1e-3,
        needs=("cvxpy", "clarabel"),
    ),
    "FairGrad": Case(
        lambda t: t.aggregation.FairGrad(alpha=1.0),
        lambda n: gb.FairGrad(alpha=1.0),
        tolerance=1e-5,
    ),
    "FairGrad of 2": Case(
        lambda t: t.aggregation.FairGrad(alpha=2.0),
        lambda n: gb.FairGrad(alpha=2.0),
        tolerance=1e-5,
    ),
    "AlignedMTL": Case(lambda t: t.aggregation.AlignedMTL(), lambda n: gb.AlignedMTL()),
    "AlignedMTL by the mean": Case(
        lambda t: t.aggregation.AlignedMTL(scale_mode="rmse"),
        lambda n: gb.AlignedMTL(scale_mode="rmse"),
    ),
    "IMTLG": Case(lambda t: t.aggregation.IMTLG(), lambda n: gb.IMTLG()),
    "ConFIG": Case(lambda t: t.aggregation.ConFIG(), lambda n: gb.ConFIG()),
    "ConFIG with preferences": Case(
        lambda t: t.aggregation.ConFIG(torch.tensor([3.0, 1.0])),
        lambda n: gb.ConFIG(preferences=[3.0, 1.0]),
        num_tasks=(2,),
    ),
    "PCD": Case(lambda t: t.aggregation.PCD(eps=0.0), lambda n: gb.PCD()),
    "PCD that demands more": Case(
        lambda t: t.aggregation.PCD(tau=0.2, beta=0.5, eps=0.0),
        lambda n: gb.PCD(tau=0.2, beta=0.5),
        num_tasks=(2,),
    ),
    "CRMOGM": Case(
        lambda t: t.aggregation.GramianWeightedAggregator(
            t.aggregation.CRMOGMWeighting(t.aggregation.AlignedMTLWeighting(), alpha=0.9)
        ),
        lambda n: gb.CRMOGM(gb.AlignedMTL(), momentum=0.9),
    ),
}


def by_mtl_backward(torchjd: TorchJD, net: Net, aggregator: Any) -> Tensor | None:
    features, losses = net.losses()
    torchjd.autojac.mtl_backward(losses, features=features)
    weights: Tensor | None = torchjd.autojac.jac_to_grad(net.trunk.parameters(), aggregator)
    return weights


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "num_tasks"), [(name, n) for name, case in CASES.items() for n in case.num_tasks]
)
def test_the_port_of_mtl_backward_fills_the_same_grad(torchjd, name: str, num_tasks: int):
    """Over steps, since some of the methods remember; the heads' gradients are raw in both."""
    case = CASES[name]
    for package in case.needs:
        pytest.importorskip(package)
    num_conflicts = 0
    for seed in range(5):
        aggregator, balancer = case.aggregator(torchjd), gb.Balancer(case.solver(num_tasks))
        theirs, ours = a_net(seed, num_tasks), a_net(seed, num_tasks)
        for _ in range(3):
            weights = by_mtl_backward(torchjd, theirs, aggregator)
            balancer(ours.losses()[1]).backward()
            report = balancer.report
            num_conflicts += len(report.conflicts)
            for part in ("trunk", "heads"):
                expected = gradient(getattr(theirs, part).parameters())
                found = gradient(getattr(ours, part).parameters())
                assert distance(found, expected) < case.tolerance, part
            if weights is not None and case.tolerance == ROUNDING:
                np.testing.assert_allclose(report.weights, weights, rtol=1e-8)
            for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
                mine.grad = other.grad.clone()
            ours.step()
            theirs.step()
    assert num_conflicts


def test_the_port_of_backward_fills_the_same_grad_heads_included(torchjd):
    for aggregator, solver in (
        (torchjd.aggregation.UPGrad(projector=exact(torchjd)), gb.UPGrad()),
        (torchjd.aggregation.AlignedMTL(), gb.AlignedMTL()),
    ):
        theirs, ours = a_net(1, 3), a_net(1, 3)
        torchjd.autojac.backward(theirs.losses()[1])
        torchjd.autojac.jac_to_grad(theirs.parameters(), aggregator)
        source = gb.SharedParameters([ours.trunk, ours.heads])
        gb.Balancer(solver, source).backward(ours.losses()[1])
        assert distance(gradient(ours.parameters()), gradient(theirs.parameters())) < ROUNDING


def test_an_engine_and_weighted_losses_are_weighted_heads(torchjd):
    theirs, ours = a_net(1, 3), a_net(1, 3)
    engine = torchjd.autogram.Engine(theirs.trunk, batch_dim=None)
    losses = torch.stack(theirs.losses()[1])
    weighting = torchjd.aggregation.UPGradWeighting(projector=exact(torchjd))
    gramian = engine.compute_gramian(losses)
    weights = weighting(gramian)
    losses.backward(weights)
    gb.Balancer(gb.UPGrad(), heads="weighted").backward(ours.losses()[1])
    assert distance(gradient(ours.parameters()), gradient(theirs.parameters())) < ROUNDING
    alone = gb.UPGrad().solve(gb.Problem.of(gramian)).weights
    np.testing.assert_allclose(alone, weights, rtol=1e-9)


def test_an_engine_over_the_last_layer_is_a_subset_to_measure(torchjd):
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 7))
    heads = [nn.Linear(7, 1) for _ in range(3)]
    parameters = list(nn.ModuleList([trunk, *heads]).parameters())
    x, y = torch.randn(16, 6), torch.randn(16, 3)

    def losses() -> list[Tensor]:
        z = trunk(x)
        return [(head(z)[:, 0] - y[:, i]).square().mean() for i, head in enumerate(heads)]

    engine = torchjd.autogram.Engine(trunk[-1], batch_dim=None)
    weighting = torchjd.aggregation.AlignedMTLWeighting()
    stacked = torch.stack(losses())
    stacked.backward(weighting(engine.compute_gramian(stacked)))
    expected = gradient(parameters)
    for parameter in parameters:
        parameter.grad = None
    source = gb.SharedParameters(trunk, measure=trunk[-1])
    gb.Balancer(gb.AlignedMTL(), source, heads="weighted").backward(losses())
    assert distance(gradient(parameters), expected) < ROUNDING


def test_their_mean_with_raw_heads_is_a_t_th_of_the_sum_in_the_trunk(torchjd):
    theirs, ours = a_net(1, 3), a_net(1, 3)
    by_mtl_backward(torchjd, theirs, torchjd.aggregation.Mean())
    solver = gb.Uniform(preferences=[1 / 3] * 3)
    gb.Balancer(solver, gb.SharedParameters(), heads="raw").backward(ours.losses()[1])
    assert distance(gradient(ours.parameters()), gradient(theirs.parameters())) < ROUNDING
    gb.Balancer(gb.Uniform()).backward((summed := a_net(1, 3)).losses()[1])
    thrice = 3 * gradient(theirs.trunk.parameters())
    assert distance(gradient(summed.trunk.parameters()), thrice) < ROUNDING


def test_a_decoder_of_two_tasks_of_three_is_balanced_unless_the_trunk_is_named(torchjd):
    def build() -> tuple[nn.ModuleList, Tensor, list[Tensor]]:
        torch.manual_seed(0)
        trunk, decoder = nn.Linear(6, 8), nn.Linear(8, 5)
        heads = [nn.Linear(5, 1), nn.Linear(5, 1), nn.Linear(8, 1)]
        x, y = torch.randn(16, 6), torch.randn(16, 3)
        z = trunk(x).tanh()
        u = decoder(z).tanh()
        inputs = (u, 3 * u, -z)
        outputs = [head(v)[:, 0] for head, v in zip(heads, inputs, strict=True)]
        losses = [(o - y[:, i]).square().mean() for i, o in enumerate(outputs)]
        return nn.ModuleList([trunk, decoder, *heads]), z, losses

    def parts(modules: nn.ModuleList) -> list[Tensor]:
        return [gradient(modules[0].parameters()), gradient(modules[1].parameters())]

    modules, z, losses = build()
    torchjd.autojac.mtl_backward(losses, features=z, retain_graph=True)
    aggregator = torchjd.aggregation.UPGrad(projector=exact(torchjd))
    torchjd.autojac.jac_to_grad(modules[0].parameters(), aggregator)
    expected = parts(modules)

    modules, _, losses = build()
    gb.Balancer(gb.UPGrad(), gb.SharedParameters(modules[0])).backward(losses)
    assert all(distance(*pair) < ROUNDING for pair in zip(parts(modules), expected, strict=True))

    modules, _, losses = build()
    gb.Balancer(gb.UPGrad()).backward(losses)
    assert distance(parts(modules)[1], expected[1]) > 0.1


def test_a_loss_for_each_sample_works_where_the_model_is_named(torchjd):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))
    x, y = torch.randn(6, 5), torch.randn(6)

    def losses() -> Tensor:
        return (model(x)[:, 0] - y).square()

    torchjd.autojac.backward(losses())
    aggregator = torchjd.aggregation.UPGrad(projector=exact(torchjd))
    torchjd.autojac.jac_to_grad(model.parameters(), aggregator)
    expected = gradient(model.parameters())
    model.zero_grad()
    balancer = gb.Balancer(gb.UPGrad(), gb.SharedParameters(model))
    balancer.backward(losses())
    assert distance(gradient(model.parameters()), expected) < 1e-8
    with pytest.raises(ValueError, match="found 5 losses for the 6 tasks"):
        balancer.backward(losses()[:5])


# TorchJD: where the page says that the numbers differ.


def gramians(num: int, num_tasks: int) -> Iterator[Tensor]:
    rng = np.random.default_rng(0)
    for _ in range(num):
        rows = torch.tensor(rng.standard_normal((num_tasks, 5)))
        yield rows @ rows.T


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("max_norm", [1.0, None])
def test_nash_mtl_is_the_same_wherever_their_iteration_arrives(torchjd, max_norm):
    pytest.importorskip("ecos")
    arrived = []
    for seed in range(10):
        net = a_net(seed, 3)
        rows = rows_of(net.losses()[1], net.trunk.parameters())
        gramian = rows @ rows.T
        unclipped = torchjd.aggregation.NashMTL(n_tasks=3, max_norm=0.0).weighting(rows)
        arrived.append((unclipped * (gramian @ unclipped) - 1).abs().max().item() < 1e-5)
        solver = gb.NashMTL(max_norm=max_norm)
        weights = torch.tensor(solver.solve(gb.Problem.of(gramian.numpy())).weights)
        if max_norm is None:
            assert (weights * (gramian @ weights) - 1).abs().max() < 1e-8
        else:
            assert (weights @ rows).norm().item() == pytest.approx(max_norm)
        if arrived[-1]:
            aggregator = torchjd.aggregation.NashMTL(n_tasks=3, max_norm=max_norm or 0.0)
            assert distance(weights @ rows, aggregator(rows)) < 1e-6
    assert sum(arrived) >= 5


def test_krum_takes_squared_distances_as_the_paper_and_they_do_not(torchjd):
    num_same = 0
    for gramian in gramians(100, num_tasks=6):
        squares = gramian.diagonal() + gramian.diagonal()[:, None] - 2 * gramian
        squares.fill_diagonal_(0.0)
        near = squares.clamp(min=0.0).sort(dim=1).values[:, 1:4]
        problem = gb.Problem.of(gramian.numpy())
        ours = gb.Krum(num_byzantine=1, num_selected=1).solve(problem).weights
        theirs = torchjd.aggregation.KrumWeighting(n_byzantine=1, n_selected=1)(gramian)
        assert ours.argmax() == near.sum(dim=1).argmin()
        assert theirs.argmax() == near.sqrt().sum(dim=1).argmin()
        num_same += int(ours.argmax() == theirs.argmax())
    assert 80 < num_same < 100


def test_their_upgrad_comes_nearer_as_its_regularisation_shrinks(torchjd):
    pytest.importorskip("quadprog")
    distances = []
    for reg_eps in (1e-4, 1e-6, 1e-8):
        projector = torchjd.linalg.QuadprogProjector(reg_eps=reg_eps)
        worst = 0.0
        for seed in range(5):
            theirs, ours = a_net(seed, 3), a_net(seed, 3)
            by_mtl_backward(torchjd, theirs, torchjd.aggregation.UPGrad(projector=projector))
            gb.Balancer(gb.UPGrad()).backward(ours.losses()[1])
            worst = max(worst, distance(gradient(ours.parameters()), gradient(theirs.parameters())))
        distances.append(worst)
    assert distances[0] > 1e-5
    assert distances[0] > 10 * distances[1] > 100 * distances[2]


def test_their_frank_wolfe_ends_above_the_shortest_vector(torchjd):
    excess = []
    for gramian in gramians(20, num_tasks=4):
        ours = torch.tensor(gb.MGDA().solve(gb.Problem.of(gramian.numpy())).weights)
        theirs = torchjd.aggregation.MGDAWeighting()(gramian)
        excess.append((theirs @ gramian @ theirs - ours @ gramian @ ours).item())
    assert min(excess) > -ROUNDING
    assert max(excess) > 1e-4


# TorchJD: scalarizers, and weightings of two batches.


def ones_of_their_own(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """What UW and IMTLL have inside here; theirs are learned by an optimizer of the user's."""
    return torch.optim.Adam(list(parameters), lr=0.025, eps=0.0)


SCALARIZERS: dict[str, tuple[Callable[[TorchJD], Any], Callable[[], gb.Solver], float]] = {
    "Sum": (lambda t: t.scalarization.Sum(), gb.Uniform, ROUNDING),
    "Constant": (
        lambda t: t.scalarization.Constant(torch.tensor([0.5, 2.0])),
        lambda: gb.Uniform(preferences=[0.5, 2.0]),
        ROUNDING,
    ),
    "GeometricMean": (lambda t: t.scalarization.GeometricMean(), gb.GLS, ROUNDING),
    "STCH": (
        lambda t: t.scalarization.STCH(0.3, torch.tensor([0.75, 0.25]), torch.tensor([0.1, 0.2])),
        lambda: gb.STCH(mu=0.3, preferences=[3.0, 1.0], reference=[0.1, 0.2]),
        ROUNDING,
    ),
    "DWA": (lambda t: t.scalarization.DWA(), gb.DWA, ROUNDING),
    "FAMO": (
        lambda t: t.scalarization.FAMO(2, min_losses=torch.tensor([0.0, -1.0])),
        lambda: gb.FAMO(min_losses=[0.0, -1.0]),
        1e-5,
    ),
    "UW": (lambda t: t.scalarization.UW(2), gb.UW, ROUNDING),
    "IMTLL": (lambda t: t.scalarization.IMTLL(2), gb.IMTLL, ROUNDING),
}


@pytest.mark.parametrize("name", SCALARIZERS)
def test_a_scalarizer_and_its_solver_take_the_same_steps(torchjd, name: str):
    make, solver, tolerance = SCALARIZERS[name]
    scalarizer, balancer = make(torchjd), gb.Balancer(solver())
    learned = ones_of_their_own(scalarizer.parameters()) if name in ("UW", "IMTLL") else None
    theirs, ours = a_net(0, 2), a_net(0, 2)
    for _ in range(4):
        for _ in range(3):
            scalarizer(torch.stack(theirs.losses()[1])).backward()
            balancer(ours.losses()[1]).backward()
            expected, found = gradient(theirs.parameters()), gradient(ours.parameters())
            assert distance(found, expected) < tolerance
            theirs.step()
            ours.step()
            if learned is not None:
                learned.step()
                learned.zero_grad()
            if name == "FAMO":
                scalarizer.update(torch.stack(theirs.losses()[1]))
            with torch.no_grad():
                balancer.after_step(ours.losses()[1])
        if name == "DWA":
            scalarizer.step()
        balancer.end_epoch()


@pytest.mark.parametrize("name", ["MoDo", "SDMGrad"])
def test_weightings_of_two_batches_are_solvers_with_the_batches_by_name(torchjd, name: str):
    """The step of the mean of both batches; heads weighted, as in the examples of TorchJD."""
    halves = [["a 1", "b 1"], ["a 2", "b 2"]]
    weighting, solver, tolerance = {
        "MoDo": (torchjd.aggregation.MoDoWeighting(), gb.MoDo(batches=halves), ROUNDING),
        # It adds 1e-8 to the norms.
        "SDMGrad": (torchjd.aggregation.SDMGradWeighting(), gb.SDMGrad(batches=halves), 1e-4),
    }[name]

    def build() -> tuple[nn.ModuleList, Callable[[Tensor], list[Tensor]]]:
        torch.manual_seed(0)
        modules = nn.ModuleList([nn.Linear(6, 8), nn.Linear(8, 1), nn.Linear(8, 1)])

        def losses_of(x: Tensor) -> list[Tensor]:
            z = modules[0](x).tanh()
            return [(modules[i](z)[:, 0] - x[:, i]).square().mean() for i in (1, 2)]

        return modules, losses_of

    (theirs, their_losses), (ours, our_losses) = build(), build()
    # A head is reached from both batches, so it is the trunk that must be named.
    balancer = gb.Balancer(solver, gb.SharedParameters(ours[0]), heads="weighted")
    for _ in range(5):
        first, second = torch.randn(16, 6), torch.randn(16, 6)
        losses = [their_losses(first), their_losses(second)]
        rows = [rows_of(of_batch, theirs[0].parameters()) for of_batch in losses]
        weights = weighting(rows[0] @ rows[1].T)
        ((torch.stack(losses[0]) + torch.stack(losses[1])) / 2).backward(weights)
        by_name = zip(halves, (our_losses(first), our_losses(second)), strict=True)
        named = {n: i for names, of_batch in by_name for n, i in zip(names, of_batch, strict=True)}
        balancer(named).backward()
        assert distance(gradient(ours.parameters()), gradient(theirs.parameters())) < tolerance
        for modules in (theirs, ours):
            torch.optim.SGD(modules.parameters(), lr=0.1).step()
            modules.zero_grad()


# The page's own loops, before and after.


class Section(NamedTuple):
    before: str
    after: str


def blocks(text: str, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [code for kind, code in found if kind == language]


def section(heading: str) -> Section:
    """The first loop that is not ours, and the first that is, under a heading."""
    text = re.split(r"^#+ ", PAGE.split(f"# {heading}\n", 1)[1], flags=re.MULTILINE)[0]
    before = blocks(text, "")
    return Section(before[0] if before else "", blocks(text, "python")[0])


def run(code: str, **given: Any) -> dict[str, Any]:
    """The page's model, and a loop on it."""
    namespace: dict[str, Any] = dict(given)
    exec(section("The model of this page").after, namespace)
    exec(code, namespace)
    return namespace


def final(namespace: dict[str, Any], part: str = "model") -> Tensor:
    """Where the loop ended, and its last gradient: any step that differs shows."""
    parameters = list(namespace[part].parameters())
    return torch.cat([flat(parameters).detach(), gradient(parameters)])


def conflicts_in(namespace: dict[str, Any], source: gb.Source) -> int:
    probe = gb.Balancer(gb.MGDA(), source)
    trunk, losses_of = namespace["trunk"], namespace["losses_of"]
    reports = [probe.measure(losses_of(trunk(x), x)) for x in namespace["batches"]]
    return sum(len(report.conflicts) for report in reports)


@pytest.mark.parametrize(
    "heading", ["A trunk with heads: `mtl_backward`", "All parameters: `backward`"]
)
def test_the_page_s_loops_for_torchjd_end_where_its_own_do(torchjd, heading: str):
    before, after = section(heading)
    assert before.count("UPGrad()") == 1
    exactly = before.replace("UPGrad()", "UPGrad(projector=exact)")
    theirs, ours = run(exactly, exact=exact(torchjd)), run(after)
    assert distance(final(ours), final(theirs)) < ROUNDING
    assert 0 < distance(final(ours), final(run(before))) < 1e-2  # with its 1e-4
    assert conflicts_in(ours, gb.SharedParameters(ours["trunk"]))


def without_conflicts(rows: Tensor) -> Tensor:
    """PCGrad for two tasks, as the paper says it: [2, P] projected rows."""
    inner = rows[0] @ rows[1]
    if inner >= 0:
        return rows
    return rows - inner / rows.square().sum(dim=1).flip(0)[:, None] * rows.flip(0)


def write(parameters: Iterable[Tensor], vector: Tensor) -> None:
    given = list(parameters)
    for parameter, part in zip(given, vector.split([p.numel() for p in given]), strict=True):
        parameter.grad = part.reshape(parameter.shape).clone()


def trainer(name: str) -> str:
    """What LibMTL's trainer does in the loop of the page, for two of its weightings."""
    return f"""
for epoch in range(2):
    for x in batches:
        losses = list(losses_of(trunk(x), x).values())
        optimizer.zero_grad()
        sum(losses).backward(retain_graph=True)  # the decoders keep their raw gradients
        write(trunk.parameters(), {name}(rows_of(losses, trunk.parameters())))
        optimizer.step()
"""


def test_the_page_s_loop_for_libmtl_is_its_rule():
    rule = lambda rows: without_conflicts(rows).sum(dim=0)  # noqa: E731
    theirs = run(trainer("pcgrad"), pcgrad=rule, rows_of=rows_of, write=write)
    before, after = section("From LibMTL")
    assert "weighting=PCGrad" in before
    assert "gb.PCGrad()" in after
    ours = run(after)
    assert distance(final(ours), final(theirs)) < ROUNDING
    assert conflicts_in(ours, gb.SharedParameters(ours["trunk"]))


def test_aligned_mtl_is_t_times_as_long_in_libmtl():
    net = a_net(0, 3)
    rows = rows_of(net.losses()[1], net.trunk.parameters())
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    aligned = (vectors * (values[0] / values).sqrt()) @ vectors.T @ rows
    gb.Balancer(gb.AlignedMTL()).backward(net.losses()[1])
    assert distance(3 * gradient(net.trunk.parameters()), aligned.sum(dim=0)) < 1e-9


def test_normalised_mgda_is_the_direction_of_libmtl_and_not_its_length():
    """There the solution for the normalised gradients is applied to these."""
    net = a_net(0, 2)
    losses = net.losses()[1]
    rows = rows_of(losses, net.trunk.parameters())
    sizes = torch.stack([i.detach() for i in losses]) * rows.norm(dim=1)
    normalised = rows / sizes[:, None]
    theirs = shares_of_two(normalised) @ normalised
    gb.Balancer(gb.MGDA(normalization="loss+")).backward(losses)
    ours = gradient(net.trunk.parameters())
    assert distance(ours / ours.norm(), theirs / theirs.norm()) < ROUNDING
    assert distance(ours, theirs) > 0.1


def test_libmtl_compares_representations_summed_over_the_batch_and_we_do_not():
    net = a_net(0, 3)
    z, losses = net.losses()
    by_sample = torch.stack([torch.autograd.grad(i, z, retain_graph=True)[0] for i in losses])
    each, summed = by_sample.flatten(1), by_sample.sum(dim=1)
    report = gb.Balancer(gb.MGDA(), gb.Representation()).measure(losses, representation=z)
    np.testing.assert_allclose(report.gram, each @ each.T, rtol=1e-9)
    theirs = gb.MGDA().solve(gb.Problem.of((summed @ summed.T).numpy())).weights
    assert np.abs(theirs - report.weights).max() > 0.01


class WeightMethods:
    """Nash-MTL as its authors' class applies it: whole losses weighted, the trunk's part clipped.

    The weights solve Gw = 1/w, by a root finder in logarithms.
    """

    def __init__(self, method: str, n_tasks: int, device: str) -> None:
        assert method == "nashmtl"
        self._num_tasks = n_tasks

    def backward(
        self,
        losses: Tensor,
        shared_parameters: list[Tensor],
        task_specific_parameters: list[Tensor],
        representation: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        rows = rows_of(losses, shared_parameters)
        gram = (rows @ rows.T).numpy()
        found = scipy.optimize.root(
            lambda s: gram @ np.exp(s) * np.exp(s) - 1, np.zeros(self._num_tasks), tol=1e-14
        )
        weights = torch.tensor(np.exp(found.x))
        loss = (weights * losses).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(shared_parameters, 1.0)
        return loss, {"weights": weights}


def test_the_page_s_loop_for_nash_mtl_is_its_rule(monkeypatch: pytest.MonkeyPatch):
    module = types.ModuleType("methods.weight_methods")
    module.WeightMethods = WeightMethods
    monkeypatch.setitem(sys.modules, "methods", types.ModuleType("methods"))
    monkeypatch.setitem(sys.modules, "methods.weight_methods", module)
    before, after = section("Nash-MTL: `WeightMethods`")
    theirs, ours = run(before), run(after)
    assert distance(final(ours), final(theirs)) < 1e-8
    weights = theirs["extra_outputs"]["weights"]
    np.testing.assert_allclose(ours["balancer"].report.weights, weights, rtol=1e-7)


class FAMO:
    """The paper's rule: z softmax of ξ, which an Adam moves by how far each log loss fell."""

    def __init__(self, n_tasks: int, device: str) -> None:
        self._logits = nn.Parameter(torch.zeros(n_tasks))
        self._adam = torch.optim.Adam([self._logits], lr=0.025, weight_decay=0.01, eps=0.0)

    def backward(self, losses: Tensor, shared_parameters: list[Tensor]) -> None:
        self._before = losses.detach()
        ratios = self._logits.softmax(0).detach() / self._before
        (ratios / ratios.sum() * losses).sum().backward()
        torch.nn.utils.clip_grad_norm_(shared_parameters, 1.0)

    def update(self, losses: Tensor) -> None:
        falls = self._before.log() - losses.log()
        shares = self._logits.softmax(0).detach()
        self._logits.grad = shares * (falls - shares @ falls)
        self._adam.step()


def test_the_page_s_loop_for_famo_is_its_rule(monkeypatch: pytest.MonkeyPatch):
    module = types.ModuleType("famo")
    module.FAMO = FAMO
    monkeypatch.setitem(sys.modules, "famo", module)
    before, after = section("FAMO")
    theirs, ours = run(before), run(after)
    assert distance(final(ours), final(theirs)) < 1e-9
    learned = theirs["weight_opt"]._logits.detach()
    assert (learned.abs() > 1e-3).all()


class Wrapper:
    """pc_backward as the wrapper of the optimizer does it, for two tasks.

    All parameters are projected together; then the mean of what both reach, the sum of the rest.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self.step = optimizer.step

    def pc_backward(self, losses: list[Tensor]) -> None:
        given = [p for group in self._optimizer.param_groups for p in group["params"]]
        rows, reached = [], []
        for loss in losses:
            found = torch.autograd.grad(loss, given, retain_graph=True, allow_unused=True)
            parts = list(zip(given, found, strict=True))
            rows.append(flat(torch.zeros_like(p) if g is None else g for p, g in parts))
            reached.append(flat(torch.full_like(p, g is not None) for p, g in parts))
        summed = without_conflicts(torch.stack(rows)).sum(dim=0)
        write(given, torch.where(sum(reached) == 2, summed / 2, summed))


def test_the_page_s_loop_for_the_pcgrad_wrapper_is_its_rule(monkeypatch: pytest.MonkeyPatch):
    """In the trunk; the heads come out T times as long there, so one step is compared."""
    module = types.ModuleType("pcgrad")
    module.PCGrad = Wrapper
    monkeypatch.setitem(sys.modules, "pcgrad", module)
    before, after = section("PCGrad as a wrapper of the optimizer")
    one_batch = "batches = batches[{}:{} + 1]\n"
    num_conflicts = 0
    for i in range(6):
        start = one_batch.format(i, i)
        theirs, ours = run(start + before), run(start + after)
        num_conflicts += len(ours["balancer"].report.conflicts)
        assert distance(final(ours, "trunk"), final(theirs, "trunk")) < ROUNDING
        their_heads, our_heads = (gradient(n["heads"].parameters()) for n in (theirs, ours))
        assert distance(2 * our_heads, their_heads) < ROUNDING
    assert num_conflicts


def test_the_wrapper_s_heads_weaken_the_projection_of_the_trunk():
    """What the page gives as the reason to name nothing."""
    num_conflicts = 0
    for seed in range(10):
        net, same = a_net(seed, 2), a_net(seed, 2)
        shared = gb.Balancer(gb.PCGrad()).backward(net.losses()[1])
        everything = gb.SharedParameters([same.trunk, same.heads])
        whole = gb.Balancer(gb.PCGrad(), everything).backward(same.losses()[1])
        if shared.conflicts:
            assert (whole.weights < shared.weights).all()
            num_conflicts += 1
    assert num_conflicts


def shares_of_two(rows: Tensor) -> Tensor:
    """The shortest vector between two, as MGDA's authors compute it, with their clipping."""
    difference = rows[1] - rows[0]
    share = (difference @ rows[1] / difference.square().sum()).clamp(0.001, 0.999)
    return torch.stack([share, 1 - share])


@pytest.mark.parametrize("approximately", [True, False])
def test_the_page_s_loop_for_mgda_is_its_rule(approximately: bool):
    after = section("MGDA, by its authors").after
    if not approximately:
        assert after.count("gb.Representation(trunk)") == 1
        after = after.replace("gb.Representation(trunk)", "gb.SharedParameters(trunk)")
    loop = """
for x in batches:
    z = trunk(x)
    losses = list(losses_of(z, x).values())
    shares = shares_of_two(rows_of(losses, [z] if approximately else trunk.parameters()))
    assert 0.001 < shares.min() < 0.999
    optimizer.zero_grad()
    again = list(losses_of(trunk(x), x).values())
    sum(share * loss for share, loss in zip(shares, again)).backward()
    optimizer.step()
"""
    given = {"shares_of_two": shares_of_two, "rows_of": rows_of, "approximately": approximately}
    theirs, ours = run(loop, **given), run(after)
    assert distance(final(ours), final(theirs)) < ROUNDING


def test_the_page_s_loop_for_uncertainty_weights_is_its_rule():
    before, after = section("Uncertainty weights inside the model")
    assert before.count("lr=0.025") == 1
    exactly = before.replace("lr=0.025", "lr=0.025, eps=0.0")
    theirs, ours = run(exactly), run(after)
    assert distance(final(ours), final(theirs)) < ROUNDING
    assert distance(final(ours), final(run(before))) < 1e-6  # with Adam's ε


def test_uncertainty_weights_that_stay_in_the_model_need_the_trunk_to_be_named():
    def weighted(net: Net) -> tuple[nn.Parameter, list[Tensor]]:
        log_variances = nn.Parameter(torch.zeros(2))
        pairs = zip(log_variances, net.losses()[1], strict=True)
        return log_variances, [0.5 * (-s).exp() * loss + 0.5 * s for s, loss in pairs]

    def direction(net: Net) -> Tensor:
        vector = gradient(net.trunk.parameters())
        return vector / vector.norm()

    for seed in range(3):
        scaled, named, found = (a_net(seed, 2) for _ in range(3))
        gb.Balancer(gb.Scaled(gb.MGDA(), by=gb.UW())).backward(scaled.losses()[1])
        log_variances, losses = weighted(named)
        gb.Balancer(gb.MGDA(), gb.SharedParameters(named.trunk)).backward(losses)
        assert distance(direction(named), direction(scaled)) < ROUNDING
        raw = 0.5 - 0.5 * torch.stack(named.losses()[1]).detach()
        assert distance(log_variances.grad, raw) < ROUNDING
        gb.Balancer(gb.MGDA()).backward(weighted(found)[1])
        assert distance(direction(found), direction(scaled)) > 1e-4


# The page's tables.


def test_every_aggregator_and_scalarizer_of_torchjd_is_in_the_tables(torchjd):
    abstract = {
        *("Aggregator", "Weighting", "WeightedAggregator", "GramianWeightedAggregator"),
        "Scalarizer",
    }
    names = {*torchjd.aggregation.__all__, *torchjd.scalarization.__all__} - abstract
    firsts = " ".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("|"))
    words = set(re.findall(r"\w+", firsts))
    missing = {name for name in names if not words & {name, name.removesuffix("Weighting")}}
    assert len(names) > 40
    assert not missing


def test_every_weighting_of_libmtl_and_of_weight_methods_is_in_the_tables():
    libmtl = """EW UW GradNorm GLS RLW MGDA PCGrad GradVac CAGrad GradDrop DWA IMTL Nash_MTL MoCo
    Aligned_MTL DB_MTL STCH ExcessMTL FairGrad FAMO MoDo SDMGrad UPGrad MOML FORUM AutoLambda"""
    methods = "stl ls uw pcgrad mgda cagrad nashmtl scaleinvls rlw imtl dwa"
    for heading, names in (("| `weighting` |", libmtl), ("| `WeightMethods` |", methods)):
        table = PAGE.split(heading, 1)[1].split("\n\n", 1)[0]
        firsts = " ".join(line.split("|")[1] for line in table.splitlines()[2:])
        assert set(names.split()) == set(re.findall(r"`(\w+)`", firsts)) - {"mgda_gn"}, heading


def test_what_the_page_calls_ours_is_there_with_the_options_that_it_names():
    ours = [line.split("|")[2] for line in PAGE.splitlines() if line.startswith("| ")]
    num_options = 0
    for name, options in re.findall(r"(?:gb\.)?\b([A-Z]\w+)\(([^()]*)\)", " ".join(ours)):
        known = inspect.signature(getattr(gb, name)).parameters
        for option in re.findall(r"(\w+)=", options):
            assert option in known, (name, option)
            num_options += 1
    assert num_options > 20
