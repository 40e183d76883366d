"""The target: the part of the renderer's prior that is written down."""

import torch

from examples.metapseudo.data.load import Target
from examples.metapseudo.data.target import COLOURS, is_target_like, target_images, target_latents
from examples.metapseudo.generators.renderer import LATENTS, SHAPES, TEXTURES, Renderer, named
from examples.metapseudo.generators.source import load_source
from examples.metapseudo.samples import GeneratedImages, share_of_target


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


LABELS = torch.arange(3000) % 6


def test_the_targets_latents_are_all_like_it_and_few_of_the_prior_are() -> None:
    assert is_target_like(target_latents(LABELS, draws())).all()
    share = is_target_like(torch.randn(20_000, 34, generator=draws())).double().mean()
    assert 0.01 < share < 0.04


def test_place_size_and_light_are_what_makes_a_latent_like_the_target() -> None:
    latents = target_latents(LABELS[:6], draws())
    for name in LATENTS:
        part = named(latents.clone())
        for value in (-4.0, 4.0):
            part[name] = torch.full_like(part[name], value)
            like = is_target_like(torch.cat(list(part.values()), dim=1))
            assert like.any() == (name not in ("place", "size", "light")), name


def test_the_target_is_upright_striped_or_chequered_and_of_any_shape() -> None:
    part = named(target_latents(LABELS, draws()))
    assert part["turn"][:, 1].abs().max() < 0.7
    assert abs(float(part["turn"][:, 1].std()) - 0.15) < 0.02
    textures = part["texture"].argmax(dim=1).bincount(minlength=4)
    assert [TEXTURES[index] for index in textures.nonzero().flatten()] == ["stripes", "checker"]
    assert part["shape"].argmax(dim=1).bincount(minlength=6).min() > 3000 / len(SHAPES) / 2
    for name, sd in (("place", 0.15 / 0.6), ("size", 0.15 / 0.7), ("light", 0.12 / 0.72)):
        assert abs(float(part[name].std()) / sd - 1) < 0.06, name


def test_the_label_is_the_colour_of_the_figure() -> None:
    part = named(target_latents(LABELS, draws()))
    angle = torch.atan2(part["hue"][:, 1], part["hue"][:, 0])
    nearest = (angle / (2 * torch.pi / len(COLOURS))).round().long() % len(COLOURS)
    assert torch.equal(nearest, LABELS)
    latents = target_latents(
        torch.tensor([COLOURS.index(c) for c in ("red", "green", "blue")]), draws()
    )
    # In the middle of a large figure without a texture there is only its colour.
    part = named(latents)
    part["place"], part["size"] = torch.zeros(3, 2), torch.full((3, 1), 2.0)
    part["shape"] = torch.tensor([[3.0, 0, 0, 0, 0, 0]]).expand(3, 6)
    part["texture"] = torch.tensor([[3.0, 0, 0, 0]]).expand(3, 4)
    shown = Renderer()(torch.cat(list(part.values()), dim=1))[:, :, 16, 16]
    assert shown.argmax(dim=1).tolist() == [0, 1, 2]


def test_images_are_of_all_classes_alike_noisy_and_decided_by_the_draws() -> None:
    torch.manual_seed(12345)
    images, labels = target_images(12, draws())
    assert images.shape == (12, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert labels.bincount().tolist() == [2] * 6
    assert torch.equal(target_images(12, draws())[0], images)
    clean = Renderer()(target_latents(labels, draws()))
    noise = images / 255 - clean
    assert 0.015 < float(noise.std()) < 0.025
    assert not torch.equal(target_images(12, draws(1))[0], images)


def test_the_share_of_samples_is_that_of_their_mapped_latents(target: Target) -> None:
    generator = load_source("renderer").generator
    random = share_of_target(GeneratedImages(generator), draws())
    assert 0 < random < 0.05
    assert random == share_of_target(GeneratedImages(generator), draws())

    class Middle(torch.nn.Module):
        def forward(self, latents: torch.Tensor) -> torch.Tensor:
            return target_latents(torch.zeros(len(latents), dtype=torch.long), draws())

    assert share_of_target(GeneratedImages(generator, mapping=Middle()), draws()) == 1
