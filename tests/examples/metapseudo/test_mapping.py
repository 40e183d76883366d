"""The maps over the latents."""

from typing import get_args

import pytest
import torch

from examples.metapseudo.mapping import AffineMap, MapName, build_mapping


@pytest.mark.parametrize("name", get_args(MapName))
def test_it_begins_as_the_identity(name: MapName) -> None:
    latents = torch.randn(5, 8)
    assert torch.equal(build_mapping(name, 8, seed=0)(latents), latents)


def test_the_affine_map_scales_and_shifts_every_latent_on_its_own() -> None:
    mapping, latents = AffineMap(3), torch.randn(5, 3)
    with torch.no_grad():
        mapping.log_scale.copy_(torch.tensor([0.0, 2.0, 0.5]).log())
        mapping.shift.copy_(torch.tensor([1.0, 0.0, -3.0]))
        expected = latents * torch.tensor([0.0, 2.0, 0.5]) + torch.tensor([1.0, 0.0, -3.0])
        torch.testing.assert_close(mapping(latents), expected)


def test_the_first_gradient_moves_scale_and_shift() -> None:
    mapping = AffineMap(8)
    mapping(torch.randn(5, 8)).square().sum().backward()
    for parameter in mapping.parameters():
        assert (parameter.grad != 0).all()


def test_it_adds_a_function_of_the_latents() -> None:
    mapping, latents = build_mapping("mlp", 8, seed=0), torch.randn(5, 8)
    with torch.no_grad():
        mapping.out.weight.normal_()
        mapping.out.bias.normal_()
        hidden = (latents @ mapping.hidden.weight.T + mapping.hidden.bias).tanh()
        expected = latents + hidden @ mapping.out.weight.T + mapping.out.bias
        torch.testing.assert_close(mapping(latents), expected)


def test_the_first_gradient_moves_it() -> None:
    mapping = build_mapping("mlp", 8, seed=0)
    mapping(torch.randn(5, 8)).square().sum().backward()
    assert (mapping.out.weight.grad != 0).any()
    assert (mapping.out.bias.grad != 0).all()


def test_the_seed_decides_and_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = (build_mapping("mlp", 8, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.hidden.weight, same.hidden.weight)
    assert not torch.equal(one.hidden.weight, other.hidden.weight)
