import numpy as np
import pytest
import torch

import gradbalance as gb


def test_by_hand():
    # Log gradients of length 2/1, 1/2 and 3/3: the longest is 2, so w = 2 / (2, 1, 3).
    problem = gb.Problem.of(np.diag([4.0, 1.0, 9.0]), losses=[1.0, 2.0, 3.0])
    assert gb.DBMTL().solve(problem).weights == pytest.approx([1.0, 2.0, 2 / 3])


def test_weighted_gradients_have_the_length_of_the_longest_log_gradient():
    rng = np.random.default_rng(0)
    jac = rng.standard_normal((4, 9)) * 10.0 ** rng.uniform(-3, 3, (4, 1))
    losses = rng.uniform(0.1, 10, 4)
    weights = gb.DBMTL().solve(gb.Problem.of(jac @ jac.T, losses)).weights
    lengths = np.linalg.norm(weights[:, None] * jac, axis=1)
    expected = np.linalg.norm(jac / losses[:, None], axis=1).max()
    np.testing.assert_allclose(lengths, expected, rtol=1e-12)


def test_the_units_of_a_loss_do_not_matter():
    jac, losses = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([2.0, 3.0])
    units = np.array([1e4, 1e-3])
    weights = gb.DBMTL().solve(gb.Problem.of(jac @ jac.T, losses)).weights
    scaled = units[:, None] * jac
    found = gb.DBMTL().solve(gb.Problem.of(scaled @ scaled.T, units * losses)).weights
    np.testing.assert_allclose(found * units, weights, rtol=1e-12)


def test_a_zero_gradient_keeps_the_weight_of_its_log_loss():
    problem = gb.Problem.of([[4.0, 0.0], [0.0, 0.0]], losses=[1.0, 4.0])
    assert gb.DBMTL().solve(problem).weights.tolist() == [1.0, 0.25]


def test_heads_get_their_raw_gradient_by_default():
    theta, head = torch.ones(2, requires_grad=True), torch.ones(1, requires_grad=True)
    balancer = gb.Balancer(gb.DBMTL(), gb.SharedParameters([theta]))
    report = balancer.backward({"a": 3 * theta[0] + head[0], "b": theta[1] ** 2})
    assert report.weights[0] != 1.0
    assert head.grad.tolist() == [1.0]


@pytest.mark.parametrize("loss", [0.0, -1.0])
def test_a_loss_that_is_not_positive_is_refused_by_name(loss):
    with pytest.raises(ValueError, match="task 'b'"):
        gb.DBMTL().solve(gb.Problem.of(np.eye(2), [1.0, loss], names=["a", "b"]))
