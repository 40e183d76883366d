"""The renderer: what each latent does, and that gradients can follow it."""

import pytest
import torch
from torch import Tensor

from examples.metapseudo.data.target import target_latents
from examples.metapseudo.generators.generator import frozen
from examples.metapseudo.generators.renderer import LATENTS, SHAPES, Renderer, named


def plain(**values: list[float]) -> Tensor:
    """A white disc in the middle of a black ground, with some latents changed."""
    part = {name: [0.0] * size for name, size in LATENTS.items()}
    part |= {
        "size": [0.2 / 0.7],
        "light": [0.15 / 0.72],
        "turn": [1.0, 0.0],
        "shape": [2.0, *[-1.0] * 5],
        "texture": [2.0, -1.0, -1.0, -1.0],
        "texture turn": [1.0, 0.0],
        "hue": [1.0, 0.0],
        "saturation": [-20.0],
        "brightness": [20.0],
        "ground from": [-20.0] * 3,
        "ground to": [-20.0] * 3,
        "ground turn": [1.0, 0.0],
        **{name.replace("_", " "): value for name, value in values.items()},
    }
    return torch.tensor([[number for name in LATENTS for number in part[name]]])


def drawn(**values: list[float]) -> Tensor:
    image: Tensor = Renderer()(plain(**values))[0]
    return image


def middle(image: Tensor) -> tuple[float, float]:
    """Row and column of the centre of what is bright, with the canvas from -1 to 1."""
    weight = image.mean(dim=0)
    place = (torch.arange(32) + 0.5) / 16 - 1
    total = weight.sum()
    return float((weight.sum(1) @ place) / total), float((weight.sum(0) @ place) / total)


def prior(num: int, seed: int = 0) -> Tensor:
    return torch.randn(num, 34, generator=torch.Generator().manual_seed(seed))


def test_latents_are_named_and_all_used() -> None:
    latents = prior(3)
    part = named(latents)
    assert sum(LATENTS.values()) == 34 == Renderer().latent_size
    assert list(part) == list(LATENTS)
    assert torch.equal(torch.cat(list(part.values()), dim=1), latents)


def test_images_are_those_of_the_interface_and_there_are_no_weights() -> None:
    renderer = frozen(Renderer())
    images = renderer(prior(64))
    assert images.shape == (64, 3, 32, 32)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert not renderer.state_dict()
    assert renderer.draw(5, torch.Generator())[1] is None


def test_the_same_latents_are_the_same_image_whatever_is_beside_them() -> None:
    latents = prior(6)
    images = Renderer()(latents)
    torch.manual_seed(12345)
    assert torch.equal(Renderer()(latents), images)
    torch.testing.assert_close(Renderer()(latents[2:3]), images[2:3], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", LATENTS)
def test_a_finite_gradient_reaches_every_latent(name: str) -> None:
    draws = torch.Generator().manual_seed(0)
    latents = target_latents(torch.arange(60) % 6, draws).requires_grad_()
    # A weighted sum, so that what moves brightness from one place to another is seen too.
    weight = torch.randn(3, 32, 32, generator=draws)
    (Renderer()(latents) * weight).sum().backward()
    assert latents.grad is not None
    assert latents.grad.isfinite().all()
    reached = (named(latents.grad)[name].abs() > 1e-6).double().mean(dim=0)
    assert reached.min() > 0.5, "for most images, in each of its numbers"


def test_gradients_are_finite_over_the_prior_and_at_no_direction() -> None:
    latents = torch.cat([prior(200), torch.zeros(1, 34), 8 * prior(50, seed=1)]).requires_grad_()
    Renderer()(latents).square().sum().backward()
    assert latents.grad is not None
    assert latents.grad.isfinite().all()


def test_edges_are_sharp() -> None:
    disc = drawn()
    row = disc[0, 16]
    assert row.diff().abs().max() > 0.35
    assert ((row > 0.05) & (row < 0.95)).sum() <= 2 * 3, "from the figure to its ground"
    assert ((disc[0] > 0.05) & (disc[0] < 0.95)).double().mean() < 0.2


def test_place_size_and_light_do_what_their_names_say() -> None:
    assert middle(drawn()) == pytest.approx((0, 0), abs=0.02)
    assert middle(drawn(place=[0.5, -0.25])) == pytest.approx((-0.15, 0.3), abs=0.03)
    area = float(drawn()[0].mean())
    # The size doubles where its logarithm grows by log 2.
    small = drawn(size=[(0.2 - 0.693) / 0.7])
    assert float(small[0].mean()) == pytest.approx(area / 4, rel=0.1)
    assert float(drawn(light=[(0.15 - 0.693) / 0.72]).max()) == pytest.approx(0.5, abs=0.01)


def test_hue_and_ground_are_colours() -> None:
    for channel, hue in enumerate(([1.0, 0.0], [-0.5, 0.866], [-0.5, -0.866])):
        shown = drawn(hue=hue, saturation=[20.0])[:, 16, 16]
        assert int(shown.argmax()) == channel
        assert shown[channel] > 0.9
        assert shown.sum() < 1.4
    fading = drawn(place=[20.0, 20.0], ground_to=[20.0] * 3)
    assert (fading[0, 16].diff() > 0).all()
    assert (fading[0, :, 16].diff().abs() < 1e-4).all()


def test_every_shape_and_texture_looks_different() -> None:
    shapes = [
        drawn(shape=[2.0 if index == chosen else -1.0 for index in range(6)])
        for chosen in range(len(SHAPES))
    ]
    textures = [
        drawn(texture=[2.0 if index == chosen else -1.0 for index in range(4)])
        for chosen in range(4)
    ]
    for images in (shapes, textures):
        for index, image in enumerate(images):
            for other in images[:index]:
                assert (image - other).abs().mean() > 0.01
    assert textures[0].std() < 1.01 * shapes[0].std(), "the plain texture is none"


def test_the_prior_is_broad() -> None:
    images = Renderer()(prior(500))
    spread = images.flatten(1).std(dim=1)
    assert (spread < 0.06).double().mean() > 0.05, "many images with hardly anything on them"
    assert (images.mean(dim=(1, 2, 3)) > 0.9).double().mean() > 0.02, "over-exposed"
    assert (images.mean(dim=(1, 2, 3)) < 0.15).double().mean() > 0.02, "nearly dark"
