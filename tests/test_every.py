"""`every=k`: the weights of one step serve the next k − 1."""

import pytest
import torch

import gradbalance as gb
from gradbalance.gradients import autograd
from tests.models import Net, grads
from tests.test_balancer import sources


def balanced(model, source, **options):
    return gb.Balancer(gb.MGDA(), source, **options)


def run(balancer, model, num_steps, losses=None):
    """Steps along changing losses; the reports."""
    reports = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(num_steps):
        optimizer.zero_grad()
        reports.append(balancer.backward(losses() if losses else model.losses()))
        optimizer.step()
    return reports


def test_it_solves_at_every_third_step():
    model = Net()
    reports = run(balanced(model, gb.SharedParameters(model.trunk), every=3), model, 7)
    solved = [report.status is not gb.Status.REUSED for report in reports]
    assert solved == [True, False, False, True, False, False, True]
    assert reports[2].weights.tolist() == reports[0].weights.tolist()
    assert reports[3].weights.tolist() != reports[0].weights.tolist()
    assert reports[1].gram is None
    assert reports[1].losses.tolist() != reports[0].losses.tolist()


@pytest.mark.parametrize("heads", ["raw", "weighted"])
@sources
def test_reused_weights_give_the_gradients_that_measured_ones_give(source, heads):
    model, other = Net(), Net()
    run(balanced(model, source(model), heads=heads, every=2), model, 1)
    run(balanced(other, source(other), heads=heads), other, 1)
    reusing = balanced(model, source(model), heads=heads, every=2)
    reusing.backward(model.losses())
    model.zero_grad()
    assert reusing.backward(model.losses()).status is gb.Status.REUSED
    other.zero_grad()
    balanced(other, source(other), heads=heads).backward(other.losses())
    for (name, found), expected in zip(grads(model).items(), grads(other).values(), strict=True):
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-15), name


@pytest.mark.parametrize(("first", "num_backwards"), [(0.25, 1), (0.0, 2)])
def test_raw_heads_take_a_backward_of_their_own_only_where_a_weight_is_zero(
    first, num_backwards, monkeypatch
):
    model, plain = Net(), Net()
    solver = gb.Uniform(preferences=[first, 1.0, 1.0])
    balancer = gb.Balancer(solver, gb.SharedParameters(model.trunk), heads="raw", every=2)
    balancer.backward(model.losses())
    model.zero_grad()
    runs = []
    once = autograd.gradients_of
    monkeypatch.setattr(autograd, "gradients_of", lambda *a, **k: runs.append(1) or once(*a, **k))
    assert balancer.backward(model.losses()).status is gb.Status.REUSED
    assert len(runs) == num_backwards
    sum(plain.losses().values()).backward()
    for head, other in zip(model.heads.parameters(), plain.heads.parameters(), strict=True):
        assert torch.allclose(head.grad, other.grad, rtol=1e-12, atol=1e-15)


def test_a_task_without_a_weight_is_solved_for():
    model = Net()
    balancer = balanced(model, gb.SharedParameters(model.trunk), every=10, tasks=list("012"))
    losses = list(model.losses().values())
    balancer.backward([*losses[:2], None])
    model.zero_grad()
    losses = list(model.losses().values())
    assert balancer.backward([losses[0], None, None]).status is gb.Status.REUSED
    assert balancer.backward(list(model.losses().values())).status is gb.Status.CONVERGED


def test_the_solver_is_updated_only_where_it_solved():
    model = Net()
    balancer = gb.Balancer(gb.PCGrad(), gb.SharedParameters(model.trunk), every=4)
    run(balancer, model, 8)
    assert balancer.solver.state_dict()["num_steps"] == 2


def test_measuring_always_solves():
    model = Net()
    balancer = balanced(model, gb.SharedParameters(model.trunk), every=2)
    run(balancer, model, 1)
    assert balancer.measure(model.losses()).status is gb.Status.CONVERGED
    assert balancer.backward(model.losses()).status is gb.Status.REUSED


def test_a_resumed_run_reuses_the_same_weights():
    model = Net()
    balancer = balanced(model, gb.SharedParameters(model.trunk), every=3)
    weights = run(balancer, model, 2)[-1].weights.tolist()
    resumed = balanced(model, gb.SharedParameters(model.trunk), every=3)
    resumed.load_state_dict(balancer.state_dict())
    reports = run(resumed, model, 2)
    assert [report.status is gb.Status.REUSED for report in reports] == [True, False]
    assert reports[0].weights.tolist() == weights


def test_a_loss_that_is_not_finite_is_refused_or_skipped():
    for policy in ("raise", "skip"):
        model = Net()
        source = gb.SharedParameters(model.trunk)
        balancer = balanced(model, source, every=2, nonfinite=policy)
        run(balancer, model, 1)
        model.zero_grad()
        losses = model.losses()
        losses["task1"] = losses["task1"] * torch.nan
        if policy == "raise":
            with pytest.raises(ValueError, match="task1"):
                balancer.backward(losses)
            assert all(gradient is None for gradient in grads(model).values())
        else:
            report = balancer.backward(losses)
            assert report.left_out == {"task1": "not finite"}
            assert grads(model)["heads.1.weight"] is None
            assert torch.isfinite(grads(model)["trunk.0.weight"]).all()


@pytest.mark.parametrize("every", [0, -1, 1.5])
def test_every_must_be_a_number_of_steps(every):
    with pytest.raises(ValueError, match="every must be a whole number"):
        gb.Balancer(gb.MGDA(), every=every)
