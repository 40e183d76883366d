"""One test for each bug seen in public code of this field, named after what went wrong."""

import copy

import numpy as np
import pytest
import torch

import gradbalance as gb
from gradbalance.testing.families import FAMILIES
from gradbalance.testing.properties import advance
from tests.contract.table import CONTRACTS
from tests.models import Net, grads

rows = pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS.keys())


class Run:
    """A model trained with a solver, its hooks called as a user's loop would."""

    def __init__(self, contract, dtype=torch.float64, **options):
        self.model = Net(dtype=dtype)
        source = gb.SharedParameters(self.model.trunk)
        self.balancer = gb.Balancer(contract.make(), source, tasks=TASKS, **options)

    def step(self, losses=None):
        self.model.zero_grad()
        report = self.balancer.backward(self.model.losses() if losses is None else losses)
        with torch.no_grad():
            self.balancer.after_step(self.model.losses())
        self.balancer.end_epoch()
        return report

    def is_finite(self):
        return all(g is None or bool(torch.isfinite(g).all()) for g in grads(self.model).values())


TASKS = ["task0", "task1", "task2"]


def direction_of(model):
    return torch.cat([p.grad.flatten() for p in model.trunk.parameters()]).numpy()


@rows
def test_the_weights_that_are_reported_are_not_those_that_act(contract):
    run = Run(contract)
    for _ in range(3):
        parameters = list(run.model.trunk.parameters())
        jac = []
        for loss in run.model.losses().values():
            gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
            jac.append(torch.cat([gradient.flatten() for gradient in gradients]).numpy())
        report = run.step()
        expected = report.weights @ np.stack(jac)
        assert direction_of(run.model) == pytest.approx(expected, rel=1e-9, abs=1e-14)


@rows
def test_a_missing_task_crashes_or_loses_its_state(contract):
    run = Run(contract)
    run.step()
    for absent in TASKS:
        losses = {k: v for k, v in run.model.losses().items() if k != absent}
        report = run.step(losses)
        assert report.left_out == {absent: "absent"}
        assert np.isfinite(report.weights).all()
        assert run.is_finite()
    assert np.isfinite(run.step().weights).all()


@rows
def test_a_parameter_that_a_task_does_not_use_crashes(contract):
    run = Run(contract)
    losses = run.model.losses()
    hidden = run.model.trunk[2](torch.ones(1, 6).double())
    losses["task1"] = run.model.heads[1](hidden).square().sum()
    assert np.isfinite(run.step(losses).weights).all()
    assert run.is_finite()


@rows
@pytest.mark.parametrize("factor", [0.0, 1e-25, 1e25])
def test_a_zero_tiny_or_huge_gradient_gives_nan(contract, factor):
    run = Run(contract)
    for _ in range(2):
        losses = run.model.losses()
        # The gradient changes its size, and the loss keeps its value.
        task = losses["task1"]
        losses["task1"] = task.detach() + factor * (task - task.detach())
        assert np.isfinite(run.step(losses).weights).all()
        assert run.is_finite()


@rows
def test_two_identical_tasks_give_nan(contract):
    run = Run(contract)
    for _ in range(2):
        losses = run.model.losses()
        losses["task1"] = losses["task0"] * 1.0
        assert np.isfinite(run.step(losses).weights).all()
        assert run.is_finite()


@rows
def test_a_nan_reaches_the_gradients_or_the_state(contract):
    run = Run(contract)
    run.step()
    before = run.balancer.get_extra_state()
    run.model.zero_grad()
    losses = run.model.losses()
    losses["task1"] = losses["task1"] * torch.nan
    with pytest.raises(ValueError, match="task1"):
        run.balancer.backward(losses)
    assert set(grads(run.model).values()) == {None}
    assert torch.equal(run.balancer.get_extra_state(), before)


@rows
def test_bfloat16_raises(contract):
    run = Run(contract, dtype=torch.bfloat16)
    for _ in range(2):
        assert np.isfinite(run.step().weights).all()
        assert run.is_finite()
        assert run.model.trunk[0].weight.grad.dtype is torch.bfloat16


def test_mgda_stops_on_the_length_of_its_step_above_the_optimum():
    for family in ("correlated", "condition_1e6", "spread_iid", "cancelling"):
        for seed in range(20):
            jac = FAMILIES[family](np.random.default_rng(seed), 16)
            solution = gb.MGDA().solve(gb.Problem.of(jac @ jac.T))
            assert solution.certificate <= 1.0


def test_mgda_certifies_relative_to_the_largest_gradient_only():
    """A gap of 1e-10·max G_ii is nothing to the long row and everything to the short one."""
    jac = np.array([[1e3, 0.0], [-2e-4, 9.8e-4]])
    solution = gb.MGDA().solve(gb.Problem.of(jac @ jac.T))
    descent = jac @ (solution.weights @ jac)
    assert descent[1] > 0
    assert descent[0] == pytest.approx(descent[1], rel=1e-6)


def test_mgda_never_reaches_a_vertex_because_its_weights_are_clamped():
    jac = np.array([[1.0, 0.0], [5.0, 1.0]])
    assert gb.MGDA().solve(gb.Problem.of(jac @ jac.T)).weights.tolist() == [1.0, 0.0]


def test_mgda_normalises_and_then_conflicts():
    """The official code applies the normalised problem's solution to the raw losses."""
    conflicts_of_the_official_rule = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        jac = rng.standard_normal((3, 6)) * 10.0 ** rng.uniform(-1, 1, (3, 1))
        problem = gb.Problem.of(jac @ jac.T, losses=rng.uniform(0.1, 3.0, 3))
        norms = np.linalg.norm(jac, axis=1)
        unit = gb.MGDA().solve(gb.Problem.of((jac / norms[:, None]) @ (jac / norms[:, None]).T))
        conflicts_of_the_official_rule += bool((jac @ (unit.weights @ jac)).min() < -1e-9)
        for normalization in ("l2", "loss", "loss+"):
            weights = gb.MGDA(normalization=normalization).solve(problem).weights
            assert (jac @ (weights @ jac)).min() >= -1e-12
    assert conflicts_of_the_official_rule > 20


def test_small_gradients_silently_turn_the_method_into_the_mean():
    jac = np.array([[3.0, 0.0], [0.0, 1.0]])
    for size in (1.0, 1e-8, 1e-100):
        weights = gb.MGDA().solve(gb.Problem.of((size * jac) @ (size * jac).T)).weights
        assert weights == pytest.approx([0.1, 0.9])


def test_gradnorm_has_its_exponent_inverted():
    solver = gb.GradNorm(alpha=1.5, lr=0.1)
    problems = [gb.Problem.of(np.eye(2), losses=losses) for losses in ([1, 1], [0.9, 0.1])]
    for problem in [problems[0], *problems[1:] * 3]:
        advance(solver, problem, solver.solve(problem))
    slow, fast = solver.solve(problems[1]).weights
    assert slow > fast


def test_pcgrad_discards_its_shuffles():
    jac = np.random.default_rng(5).standard_normal((6, 4))
    problem = gb.Problem.of(jac @ jac.T)
    solver, seen = gb.PCGrad(), set()
    for _ in range(8):
        solution = solver.solve(problem)
        seen.add(tuple(solution.weights))
        solver.update(problem, solution)
    assert len(seen) == 8


def test_a_loaded_checkpoint_does_not_fit_a_fresh_balancer():
    """State in lazily sized buffers does not load, and `.half()` truncates it."""
    run = Run(CONTRACTS["GradNorm"])
    run.step()
    fresh = Run(CONTRACTS["GradNorm"])
    fresh.balancer.load_state_dict(run.balancer.half().state_dict())
    assert fresh.step().weights.tolist() == run.step().weights.tolist()


@pytest.mark.parametrize("name", ["DWA", "FAMO", "STCH", "UW", "IMTLL"])
def test_a_resumed_run_divides_by_zero_for_history_that_was_not_saved(name):
    """Means of epochs, moments, a reference from a warm-up: all that counts is in the state."""
    unbroken, checkpoints, expected = Run(CONTRACTS[name]), [], []
    for _ in range(4):
        checkpoints.append((unbroken.model.state_dict(), unbroken.balancer.state_dict()))
        checkpoints[-1] = copy.deepcopy(checkpoints[-1])
        expected.append(unbroken.step().weights.tolist())
        with torch.no_grad():  # no optimizer is needed to change the losses
            unbroken.model.trunk[0].weight *= 0.9
    for start, (model_state, balancer_state) in enumerate(checkpoints):
        resumed = Run(CONTRACTS[name])
        resumed.model.load_state_dict(model_state)
        resumed.balancer.load_state_dict(balancer_state)
        for weights in expected[start:]:
            assert resumed.step().weights.tolist() == weights
            with torch.no_grad():
                resumed.model.trunk[0].weight *= 0.9


def test_gls_reports_other_weights_than_those_of_its_objective():
    """One public code reports L_i / (T ΠL) where (ΠL)^(1/T) / (T L_i) acts."""
    losses = torch.tensor([0.5, 3.0], dtype=torch.float64, requires_grad=True)
    losses.prod().sqrt().backward()
    found = gb.GLS().solve(gb.Problem.of(losses=losses.detach())).weights
    assert found == pytest.approx(losses.grad.numpy())


def test_dwa_compares_batches_instead_of_epochs():
    """Ratios of single batches are noise around 1; and unequal batches must not count as epochs."""
    solver = gb.DWA()
    for losses in ([1.0, 1.0], [5.0, 0.1], [0.2, 9.0]):
        problem = gb.Problem.of(losses=losses)
        assert solver.solve(problem).weights.tolist() == [1.0, 1.0]
        solver.update(problem, solver.solve(problem))


def test_famo_forgets_the_lower_bound_in_its_falls():
    """Near its bound a loss falls far while it hardly changes: b belongs inside both logarithms."""
    solver = gb.FAMO(min_losses=[10.0, 0.0])
    problem = gb.Problem.of(losses=[10.1, 1.0])
    for _ in range(3):
        solver.update(problem, solver.solve(problem))
        solver.after_step({"0": 10.01, "1": 0.5})  # above the bound to a tenth, and to a half
    fast, slow = solver.solve(problem).weights * np.array([0.1, 1.0])
    assert slow > fast


def test_famo_silently_stays_uniform_when_it_is_never_told():
    run = Run(CONTRACTS["FAMO"])
    run.balancer.backward(run.model.losses())
    with pytest.raises(ValueError, match="after_step"):
        run.balancer.backward(run.model.losses())


@pytest.mark.parametrize("solver", [gb.UPGrad(), gb.DualProj()], ids=["UPGrad", "DualProj"])
def test_an_epsilon_on_the_gramian_breaks_the_promise_where_norms_differ(solver):
    for seed in range(200):
        jac = FAMILIES["spread_iid"](np.random.default_rng(seed), 5)
        direction = solver.solve(gb.Problem.of(jac @ jac.T)).weights @ jac
        lengths = np.linalg.norm(jac, axis=1) * np.linalg.norm(direction)
        assert (jac @ direction >= -1e-9 * lengths).all()


def test_cagrad_leaves_its_ball_where_the_gradients_balance():
    jac = np.array([[1.0, 0.0], [-0.5, 1.0], [-0.5, -1.0], [0.2, 0.1]])
    for c in (0.2, 0.5, 0.9):
        direction = gb.CAGrad(c=c).solve(gb.Problem.of(jac @ jac.T)).weights @ jac
        mean = jac.mean(axis=0)
        assert np.linalg.norm(direction - mean) <= c * np.linalg.norm(mean) * (1 + 1e-9)


def test_cagrad_keeps_its_promise_for_large_balls_where_the_gradients_balance():
    jac = np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0]])
    solution = gb.CAGrad(c=1.5).solve(gb.Problem.of(jac @ jac.T))
    assert (jac @ (solution.weights @ jac) >= -1e-9).all()


def test_imtlg_turns_a_zero_gradient_into_nan():
    solution = gb.IMTLG().solve(gb.Problem.of(np.diag([4.0, 0.0, 1.0])))
    assert solution.weights == pytest.approx([1 / 3, 0.0, 2 / 3])


def test_nashmtl_silently_returns_ones_or_diverges_where_it_has_no_solution():
    opposed = np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0]])
    solution = gb.NashMTL().solve(gb.Problem.of(opposed @ opposed.T))
    assert solution.status is gb.Status.STATIONARY
    assert np.linalg.norm(solution.weights @ opposed) < 1e-7
    assert solution.weights.max() < 10


def test_gradvac_divides_by_a_gradient_that_an_opposed_one_has_cancelled():
    problem = gb.Problem.of([[1.0, -2.0], [-2.0, 4.0]])
    solver = gb.GradVac(beta=1.0)
    for _ in range(4):
        solution = solver.solve(problem)
        assert np.isfinite(solution.weights).all()
        solver.update(problem, solution)
