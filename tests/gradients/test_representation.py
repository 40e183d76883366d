"""Capturing the representation, and what is refused."""

import pytest
import torch

import gradbalance as gb
from tests.models import HandModel, Net


def test_passed_equals_captured():
    model, other = Net(), Net()
    captured = gb.Balancer(gb.MGDA(), gb.Representation(model.trunk)).backward(model.losses())
    z = other.trunk(other.x)
    balancer = gb.Balancer(gb.MGDA(), gb.Representation())
    passed = balancer.backward(other.losses(z), representation=z)
    assert passed.gram == pytest.approx(captured.gram)
    for first, second in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad)


def test_several_tensors_are_one_representation():
    model = HandModel()
    z = model.represent()
    parts = [z[:1] * 1.0, z[1:] * 1.0]
    losses = model.losses(torch.cat(parts))
    balancer = gb.Balancer(gb.MGDA(), gb.Representation())
    report = balancer.backward(losses, representation=parts)
    assert report.gram.tolist() == [list(row) for row in model.GRAM_Z]


def test_only_forward_passes_with_gradients_count():
    model = Net()
    balancer = gb.Balancer(gb.MGDA(), gb.Representation(model.trunk))
    for _ in range(2):
        with torch.no_grad():
            model.losses()
        with torch.inference_mode():
            model.losses()
        balancer.backward(model.losses())


def test_two_forward_passes_are_an_error_and_the_next_step_works():
    model = Net()
    balancer = gb.Balancer(gb.MGDA(), gb.Representation(model.trunk))
    model.losses()
    with pytest.raises(ValueError, match="found 2 forward passes"):
        balancer.backward(model.losses())
    assert model.trunk[0].weight.grad is None
    balancer.backward(model.losses())


def test_no_forward_pass_is_an_error():
    model = Net()
    losses = model.losses()
    with pytest.raises(ValueError, match="found none"):
        gb.Balancer(gb.MGDA(), gb.Representation(model.trunk)).backward(losses)


def test_measuring_again_and_again():
    model = Net()
    balancer = gb.Balancer(gb.MGDA(), gb.Representation(model.trunk))
    for _ in range(3):
        balancer.measure(model.losses())
    balancer.backward(model.losses())


def test_a_loss_that_does_not_depend_on_it_is_named():
    model = Net()
    balancer = gb.Balancer(gb.MGDA(), gb.Representation(model.trunk))
    losses = model.losses() | {"decay": model.heads[0].weight.square().sum()}
    with pytest.raises(ValueError, match="'decay' does not depend on the representation"):
        balancer.backward(losses)


def test_a_path_around_it_into_the_trunk_is_refused():
    model = Net()
    balancer = gb.Balancer(gb.MGDA(), gb.Representation(model.trunk))
    losses = model.losses()
    losses["task1"] = losses["task1"] + model.trunk[0].weight.square().sum()
    with pytest.raises(ValueError, match=r"'task1' reaches parameters of shapes \[\(6, 4\)\]"):
        balancer.backward(losses)


def test_a_leaf_can_be_the_representation():
    z = torch.ones(3, requires_grad=True)
    balancer = gb.Balancer(gb.MGDA(), gb.Representation())
    balancer.backward([z.sum(), (z * z).sum()], representation=z)
    assert z.grad.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("representation", "match"),
    [({"z": 1}, "a tensor or a sequence"), (torch.ones(2), "does not require gradients")],
)
def test_what_is_no_representation(representation, match):
    model = Net()
    balancer = gb.Balancer(gb.MGDA(), gb.Representation())
    with pytest.raises(ValueError, match=match):
        balancer.backward(model.losses(), representation=representation)


def test_it_is_refused_by_other_sources():
    model = Net()
    with pytest.raises(ValueError, match=r"for a Representation\(\) source"):
        gb.Balancer(gb.MGDA()).backward(model.losses(), representation=torch.ones(1))


def test_the_source_takes_a_module():
    with pytest.raises(ValueError, match="needs a module"):
        gb.Representation(torch.ones(2))


def test_in_place_activations_after_the_capture():
    model = Net()
    balancer = gb.Balancer(gb.Uniform(), gb.Representation(model.trunk))
    z = torch.relu_(model.trunk(model.x))
    balancer.backward(model.losses(z))
    other = Net()
    sum(other.losses(torch.relu(other.trunk(other.x))).values()).backward()
    torch.testing.assert_close(model.trunk[0].weight.grad, other.trunk[0].weight.grad)
