import numpy as np
import pytest
import torch

from gradbalance.numerics import adam_step


def run(x, gradients, lr=0.025, betas=(0.9, 0.999)):
    moments = (np.zeros_like(x), np.zeros_like(x))
    for num_steps, gradient in enumerate(gradients):
        x, moments = adam_step(x, gradient, moments, num_steps, lr=lr, betas=betas)
    return x, moments


def test_agrees_with_torch():
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal(4), rng.standard_normal((20, 4))
    parameter = torch.nn.Parameter(torch.tensor(start))
    optimizer = torch.optim.Adam([parameter], lr=0.025, betas=(0.8, 0.95), eps=0.0)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    x, _ = run(start, gradients, betas=(0.8, 0.95))
    np.testing.assert_allclose(x, parameter.detach().numpy(), rtol=1e-12)


def test_two_steps_by_hand():
    x, (mean, square) = run(np.zeros(1), [[3.0], [-1.0]], lr=1.0, betas=(0.5, 0.75))
    # m: 1.5, then 0.25; v: 2.25, then 1.9375. Corrected: 3/3, then (0.25/0.75)/√(1.9375/0.4375).
    assert mean == pytest.approx([0.25])
    assert square == pytest.approx([1.9375])
    assert x == pytest.approx([-1.0 - (1 / 3) / np.sqrt(1.9375 / 0.4375)])


def test_the_scale_of_the_gradient_does_not_matter():
    gradients = np.random.default_rng(1).standard_normal((5, 3))
    plain, _ = run(np.ones(3), gradients)
    tiny, _ = run(np.ones(3), gradients * 2.0**-200)
    np.testing.assert_array_equal(plain, tiny)


def test_zero_gradients_move_nothing():
    x, moments = run(np.ones(2), [[0.0, 1.0], [0.0, 1.0]])
    assert x[0] == 1.0
    assert x[1] < 1.0
    assert moments[0][0] == moments[1][0] == 0.0


def test_elements_have_their_own_number_of_steps():
    moments = (np.array([0.3, 0.0]), np.array([0.2, 0.0]))
    together, _ = adam_step([1.0, 1.0], [0.5, 0.5], moments, np.array([7, 0]), lr=0.1)
    first, _ = adam_step([1.0], [0.5], ([0.3], [0.2]), 7, lr=0.1)
    second, _ = adam_step([1.0], [0.5], ([0.0], [0.0]), 0, lr=0.1)
    assert together.tolist() == [first[0], second[0]]
    assert first[0] != second[0]


def test_writes_nothing_in_place():
    x, gradient, moments = np.ones(2), np.ones(2), (np.ones(2), np.ones(2))
    adam_step(x, gradient, moments, 3, lr=0.1)
    assert x.tolist() == gradient.tolist() == [1.0, 1.0]
    assert moments[0].tolist() == moments[1].tolist() == [1.0, 1.0]


def test_no_gradient_is_too_large():
    x, (mean, square) = adam_step([1.0, 1.0], [1e300, -1e300], ([0.0] * 2, [0.0] * 2), 0, lr=0.1)
    np.testing.assert_allclose(x, [0.9, 1.1], rtol=1e-12)
    assert np.isfinite([mean, square]).all()


@pytest.mark.parametrize("betas", [(1.0, 0.9), (0.9, 1.0), (-0.1, 0.9)])
def test_decay_rates_out_of_range(betas):
    with pytest.raises(ValueError, match=r"betas\[[01]\] must be a number in \[0, 1\)"):
        adam_step([1.0], [1.0], ([0.0], [0.0]), 0, lr=0.1, betas=betas)
