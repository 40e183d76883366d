"""GLS, SI and STCH: the weights are the partial derivatives of a scalar objective."""

import numpy as np
import pytest
import torch

import gradbalance as gb


def derivative(objective, losses):
    values = torch.tensor(losses, dtype=torch.float64, requires_grad=True)
    objective(values).backward()
    return values.grad.numpy()


def weights(solver, losses, **options):
    return solver.solve(gb.Problem.of(losses=losses, **options)).weights


OBJECTIVES = {
    "gls": (gb.GLS, lambda x: x.prod() ** (1 / len(x))),
    "si": (gb.SI, lambda x: x.log().sum()),
    "si preferred": (
        lambda: gb.SI(preferences=[1.0, 2.0, 3.0]),
        lambda x: (torch.tensor([1.0, 2.0, 3.0]) * x.log()).sum(),
    ),
    "stch": (gb.STCH, lambda x: torch.logsumexp(x / 3, 0)),
    "stch with all": (
        lambda: gb.STCH(mu=0.2, reference=[0.1, -0.2, 0.3], preferences=[1.0, 2.0, 5.0]),
        lambda x: 0.2 * torch.logsumexp(
            torch.tensor([1.0, 2.0, 5.0]) / 8 * (x - torch.tensor([0.1, -0.2, 0.3])) / 0.2, 0
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "objective"), OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_weights_are_the_derivatives_of_the_objective(make, objective):
    for losses in ([1.0, 2.0, 0.3], [1e-3, 1.0, 5.0], [0.5, 0.5, 0.5]):
        expected = derivative(objective, losses)
        np.testing.assert_allclose(weights(make(), losses), expected, rtol=1e-6)


@pytest.mark.parametrize("solver", [gb.GLS(), gb.SI()])
def test_the_units_of_a_loss_change_no_direction(solver):
    losses, units = np.array([0.3, 2.0, 5.0]), np.array([1e-3, 1.0, 1e6])
    found = weights(solver, losses * units) * units  # what acts on the gradients in old units
    expected = weights(solver, losses)
    np.testing.assert_allclose(found / found.sum(), expected / expected.sum(), rtol=1e-12)


def test_gls_does_not_overflow_where_the_product_would():
    np.testing.assert_allclose(weights(gb.GLS(), [1e200, 1e200, 1e200]), [1 / 3] * 3)


def test_stch_weights_sum_to_one_over_the_number_of_tasks():
    assert weights(gb.STCH(), [1.0, 5.0, 2.0, 0.1]).sum() == pytest.approx(0.25)


def test_stch_tends_to_the_largest_loss_and_to_the_preferences():
    assert weights(gb.STCH(mu=1e-9), [1.0, 3.0, 2.0]) == pytest.approx([0, 1 / 3, 0])
    even = weights(gb.STCH(mu=1e9, preferences=[1.0, 2.0, 1.0]), [1.0, 3.0, 2.0])
    assert even / even.sum() == pytest.approx([0.25, 0.5, 0.25])


def test_stch_on_logarithms_is_the_official_objective():
    # The official multi-task code: mu T log sum (L / l)^(1 / mu), here with mu = .5 and T = 3.
    losses, means = np.array([1.0, 3.0, 0.2]), np.array([2.0, 2.5, 0.3])
    official = derivative(
        lambda x: 0.5 * 3 * torch.log(((x.exp() / torch.tensor(means)) ** (1 / 0.5)).sum()),
        np.log(losses),
    )
    found = weights(gb.STCH(mu=0.5 / 3, reference=np.log(means).tolist()), np.log(losses))
    np.testing.assert_allclose(9 * found, official, rtol=1e-12)


@pytest.mark.parametrize("solver", [gb.GLS(), gb.SI()])
@pytest.mark.parametrize("loss", [0.0, -1.0])
def test_a_loss_that_is_not_positive_is_refused_by_name(solver, loss):
    with pytest.raises(ValueError, match="task 'b'"):
        weights(solver, [1.0, loss], names=["a", "b"])


def test_stch_takes_negative_losses():
    assert np.isfinite(weights(gb.STCH(), [-1.0, 1.0])).all()


def test_stch_refuses_a_reference_that_does_not_fit():
    with pytest.raises(ValueError, match="reference must name every task"):
        weights(gb.STCH(reference={"0": 1.0}), [1.0, 1.0])


def test_an_absent_task_leaves_the_preferences_of_the_others():
    problem = gb.Problem.of(losses=[1.0, 1.0], names=["a", "c"], tasks=["a", "b", "c"])
    solver = gb.STCH(preferences=[1.0, 7.0, 3.0], mu=1e9)
    assert solver.solve(problem).weights == pytest.approx([0.125, 0.375])
