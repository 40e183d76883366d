"""The mapping network over the latents."""

import torch

from examples.metapseudo.mapping import build_mapping


def test_it_begins_as_the_identity() -> None:
    latents = torch.randn(5, 8)
    assert torch.equal(build_mapping(8, seed=0)(latents), latents)


def test_it_adds_a_function_of_the_latents() -> None:
    mapping, latents = build_mapping(8, seed=0), torch.randn(5, 8)
    with torch.no_grad():
        mapping.out.weight.normal_()
        mapping.out.bias.normal_()
        hidden = (latents @ mapping.hidden.weight.T + mapping.hidden.bias).tanh()
        expected = latents + hidden @ mapping.out.weight.T + mapping.out.bias
        torch.testing.assert_close(mapping(latents), expected)


def test_the_first_gradient_moves_it() -> None:
    mapping = build_mapping(8, seed=0)
    mapping(torch.randn(5, 8)).square().sum().backward()
    assert (mapping.out.weight.grad != 0).any()
    assert (mapping.out.bias.grad != 0).all()


def test_the_seed_decides_and_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = (build_mapping(8, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.hidden.weight, same.hidden.weight)
    assert not torch.equal(one.hidden.weight, other.hidden.weight)
