"""The generators that are trained: their interface, their files, and their training."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from examples.common.checkpoint import load_checkpoint
from examples.metapseudo.classifier import probabilities
from examples.metapseudo.data.load import Labelled
from examples.metapseudo.generators import adversarial as adversarial_module
from examples.metapseudo.generators import source as source_module
from examples.metapseudo.generators.adversarial import (
    AdversarialGenerator,
    Discriminator,
    train_adversarial,
)
from examples.metapseudo.generators.autoencoder import AutoencoderGenerator, train_autoencoder
from examples.metapseudo.generators.conditional import ConditionalGenerator
from examples.metapseudo.generators.generator import frozen
from examples.metapseudo.generators.published import FaceGenerator
from examples.metapseudo.generators.renderer import Renderer
from examples.metapseudo.generators.source import (
    KINDS,
    Source,
    load_source,
    train_classifier,
    train_source,
)

CLASSES = torch.arange(6) % 3


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def gaussian(conditional: Source) -> AutoencoderGenerator:
    assert isinstance(conditional.generator, AutoencoderGenerator)
    return conditional.generator


@pytest.fixture
def adversarial() -> AdversarialGenerator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = AdversarialGenerator(("a", "b", "c"), latent_size=8, width=4)
    with torch.no_grad():
        generator.layers[0].weight.mul_(20)  # Contrast in the images.
        generator.layers[-2].weight.mul_(20)
    frozen(generator)
    return generator


@pytest.fixture(params=KINDS)
def generator(
    request: pytest.FixtureRequest,
    gaussian: AutoencoderGenerator,
    adversarial: AdversarialGenerator,
) -> ConditionalGenerator:
    return gaussian if request.param == "autoencoder" else adversarial


@pytest.fixture
def latents() -> Tensor:
    return torch.randn(6, 8, generator=draws())


def test_images_have_the_shape_and_the_range_of_the_interface(
    generator: ConditionalGenerator, latents: Tensor
) -> None:
    assert (generator.latent_size, generator.num_classes) == (8, 3)
    images = generator(1000 * latents, CLASSES)
    assert images.shape == (6, 3, 32, 32)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < 0.01
    assert 0.99 < images.max() <= 1


def test_classes_are_needed(generator: ConditionalGenerator, latents: Tensor) -> None:
    with pytest.raises(ValueError, match="integers below 3, got None"):
        generator(latents)


def test_an_image_depends_on_its_own_latent_and_class_only(
    generator: ConditionalGenerator, latents: Tensor
) -> None:
    images = generator(latents, CLASSES)
    alone = generator(latents[1:2], CLASSES[1:2])
    torch.testing.assert_close(alone, images[1:2], rtol=0, atol=1e-5)
    for other in (generator(latents, (CLASSES + 1) % 3), generator(latents + 1, CLASSES)):
        assert (other - images).abs().amax(dim=(1, 2, 3)).min() > 0.01


def test_gradients_reach_the_latents_and_not_the_frozen_weights(
    generator: ConditionalGenerator, latents: Tensor
) -> None:
    latents.requires_grad_()
    generator(latents, CLASSES).square().mean().backward()  # type: ignore[no-untyped-call]
    assert latents.grad is not None
    assert latents.grad.isfinite().all()
    assert (latents.grad.abs().sum(1) > 0).all()
    assert all(weight.grad is None for weight in generator.parameters())


def test_an_image_is_decoded_from_a_draw_of_the_gaussian_of_its_class(
    gaussian: AutoencoderGenerator, latents: Tensor
) -> None:
    generator = gaussian
    generator.factors.normal_(generator=draws(1))
    codes = torch.stack(
        [
            generator.means[label] + generator.factors[label] @ latent
            for latent, label in zip(latents, CLASSES, strict=True)
        ]
    )
    torch.testing.assert_close(generator(latents, CLASSES), generator.decoder(codes))


def test_the_gaussians_are_those_of_the_codes(gaussian: AutoencoderGenerator) -> None:
    generator = gaussian
    scales = torch.tensor([0.5, 1.0, 2.0])
    mixing = torch.randn(8, 8, generator=draws(1))
    labels = torch.arange(300) % 3
    codes = scales[labels, None] * torch.randn(300, 8, generator=draws(2)) @ mixing + 5
    generator.fit(codes, labels)
    for label in range(3):
        mine = codes[labels == label]
        torch.testing.assert_close(generator.means[label], mine.mean(dim=0))
        covariance = generator.factors[label] @ generator.factors[label].T
        torch.testing.assert_close(covariance, mine.T.cov(), rtol=1e-3, atol=1e-4)


def test_a_state_in_half_precision_gives_nearly_the_same_images(
    generator: ConditionalGenerator, latents: Tensor
) -> None:
    state = generator.as_state()
    assert {value.dtype for value in state["weights"].values()} <= {torch.float16, torch.int64}
    restored = type(generator).of_state(state)
    assert restored.classes == ("a", "b", "c")
    assert restored.latent_size == 8
    assert {weight.dtype for weight in restored.parameters()} == {torch.float32}
    torch.testing.assert_close(
        restored(latents, CLASSES), generator(latents, CLASSES), rtol=0, atol=0.01
    )
    again = restored.as_state()["weights"]
    assert all(torch.equal(value, again[name]) for name, value in state["weights"].items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_of_a_state_is_frozen(kind: str) -> None:
    trainable = KINDS[kind].generator(("a", "b"), latent_size=8, width=4)
    assert trainable.training
    assert all(weight.requires_grad for weight in trainable.parameters())
    restored = type(trainable).of_state(trainable.as_state())
    assert frozen(trainable) is trainable
    for generator in (restored, trainable):
        assert not any(module.training for module in generator.modules())
        assert not any(weight.requires_grad for weight in generator.parameters())


def test_latents_are_normal_and_classes_equally_likely(generator: ConditionalGenerator) -> None:
    latents, classes = generator.draw(3000, draws())
    assert latents.shape == (3000, 8)
    assert abs(float(latents.mean())) < 0.03
    assert float(latents.std()) == pytest.approx(1, abs=0.02)
    assert classes is not None
    assert (classes.bincount(minlength=3) / 3000).tolist() == pytest.approx([1 / 3] * 3, abs=0.05)


def test_classes_are_drawn_by_their_shares(generator: ConditionalGenerator) -> None:
    _, classes = generator.draw(3000, draws(), torch.tensor([0.2, 0.0, 0.8]))
    assert classes is not None
    counts = classes.bincount(minlength=3)
    assert counts[1] == 0
    assert (counts / 3000).tolist() == pytest.approx([0.2, 0, 0.8], abs=0.03)


def test_the_generator_of_the_draws_decides(generator: ConditionalGenerator) -> None:
    torch.manual_seed(0)
    latents, classes = generator.draw(5, draws(1))
    torch.manual_seed(1)
    same_latents, same_classes = generator.draw(5, draws(1))
    assert classes is not None
    assert same_classes is not None
    assert torch.equal(latents, same_latents)
    assert torch.equal(classes, same_classes)
    assert not torch.equal(latents, generator.draw(5, draws(2))[0])


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_decided_by_its_seed_and_leaves_the_global_generator_alone(
    source_images: Labelled, kind: str
) -> None:
    def trained(seed: int) -> ConditionalGenerator:
        images = (source_images.images, source_images.labels, source_images.classes)
        return KINDS[kind].train(*images, num_steps=2, batch_size=8, seed=seed)

    state = torch.get_rng_state()
    first = trained(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(12345)
    again, other = trained(0).state_dict(), trained(1).state_dict()
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again[name]), name
        assert weight.isfinite().all(), name
    assert not all(torch.equal(weight, other[name]) for name, weight in again.items())
    assert not any(weight.requires_grad for weight in first.parameters())
    assert not first.training


def test_an_autoencoder_learns_what_the_classes_look_like() -> None:
    images = torch.full((60, 3, 32, 32), 40, dtype=torch.uint8)
    labels = torch.arange(60) % 2
    images[labels == 0, 0] = 220  # red
    images[labels == 1, 2] = 220  # blue
    generator = train_autoencoder(images, labels, ("red", "blue"), num_steps=60, batch_size=8)
    latents, _ = generator.draw(10, draws())
    for label, channel in ((0, 0), (1, 2)):
        shown = generator(latents, torch.full((10,), label)).mean(dim=(2, 3))
        assert (shown.argmax(dim=1) == channel).all()
        assert (shown[:, channel] > 0.5).all()


def test_what_is_trained_is_read_back_frozen(source_images: Labelled, source_file: Path) -> None:
    source = load_source(str(source_file))
    assert source.generator.classes == ("a", "b", "c")
    networks = (source.generator, source.classifier)
    assert not any(weight.requires_grad for network in networks for weight in network.parameters())
    expected = probabilities(train_classifier(source_images, num_steps=2), source_images.images)
    found = probabilities(source.classifier, source_images.images)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3)
    kept = load_checkpoint(source_file)
    for weights in (kept["classifier"], kept["generator"]["weights"]):
        assert {value.dtype for value in weights.values()} <= {torch.float16, torch.int64}


def test_a_source_is_known_by_its_name(source_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = load_source("renderer")
    assert isinstance(renderer.generator, Renderer)
    assert renderer.classifier is None
    monkeypatch.setattr(source_module, "AUTOENCODER", source_file)
    assert load_source("autoencoder").generator.num_classes == 3
    faces = FaceGenerator(torch.nn.Identity(), latent_size=5)
    monkeypatch.setattr(FaceGenerator, "load", lambda: faces)
    published = load_source("faces")
    assert published.generator is faces
    assert published.classifier is None


@pytest.mark.long
def test_adversarial_training_learns_colours_and_classes() -> None:
    images = torch.randint(20, 60, (60, 3, 32, 32), generator=draws(), dtype=torch.uint8)
    labels = torch.arange(60) % 2
    images[labels == 0, 0] += 180  # red
    images[labels == 1, 2] += 180  # blue
    generator = train_adversarial(images, labels, ("red", "blue"), num_steps=80, batch_size=8)
    latents, _ = generator.draw(10, draws())
    red, blue = (
        generator(latents, torch.full((10,), label)).mean(dim=(0, 2, 3)) for label in (0, 1)
    )
    assert red[0] > blue[0] + 0.05
    assert blue[2] > red[2] + 0.05
    assert max(red[1], blue[1]) < 0.4


def test_the_running_average_forgets_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    trained = []

    class Watched(AdversarialGenerator):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **{"width": 4, **options})  # type: ignore[arg-type]
            trained.append(self)

    monkeypatch.setattr(adversarial_module, "AdversarialGenerator", Watched)
    averaged = train_adversarial(images, torch.arange(4) % 2, ("a", "b"), num_steps=1, batch_size=4)
    for name, weight in trained[0].state_dict().items():
        assert torch.equal(averaged.state_dict()[name], weight), name


def test_the_discriminator_sees_the_class_and_how_much_a_batch_differs() -> None:
    discriminator = Discriminator(2, width=4).eval()
    images = torch.rand(3, 3, 32, 32, generator=draws())
    zeros = torch.zeros(3, dtype=torch.long)
    scores = discriminator(images, zeros)
    assert scores.shape == (3,)
    assert (discriminator(images, zeros + 1) != scores).all()
    assert discriminator(images[:1].expand(3, 3, 32, 32), zeros)[0] != scores[0]


def test_another_kind_of_generator_is_refused(source_images: Labelled, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"kind must be one of .*autoencoder.*, got 'gan'"):
        train_source(source_images, tmp_path / "a.pt", kind="gan", classifier_steps=1)
    assert not list(tmp_path.iterdir())


def test_the_source_classifier_learns_its_classes() -> None:
    images = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
    labels = torch.arange(8) % 2
    images[labels == 1] = 200
    flat = Labelled(images=images, labels=labels, classes=("dark", "bright"))
    seen = probabilities(train_classifier(flat, num_steps=10, batch_size=8), images)
    assert torch.equal(seen.argmax(dim=1), labels)


def test_a_missing_file_is_named_with_what_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = "python -m examples.metapseudo.train_source"
    path = tmp_path / "none.pt"
    with pytest.raises(
        ValueError, match=rf"no generator in '.*none\.pt'.*`{command} --data … --out"
    ):
        load_source(str(path))
    monkeypatch.setattr(source_module, "AUTOENCODER", path)
    with pytest.raises(ValueError, match=rf"no generator in '.*none\.pt'.*`{command}`"):
        load_source("autoencoder")


@pytest.mark.parametrize("content", [b"no checkpoint", None])
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "other.pt"
    if content is None:
        torch.save({"weights": torch.ones(2)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.pt' is not a file that `train_source` wrote"):
        load_source(str(path))


def test_a_class_of_one_image_is_refused(gaussian: AutoencoderGenerator) -> None:
    generator = gaussian
    before = generator.means.clone()
    with pytest.raises(ValueError, match="needs two images, found 1 of 'a'"):
        generator.fit(torch.ones(5, 8), torch.tensor([0, 1, 1, 2, 2]))
    assert torch.equal(generator.means, before)


def test_reading_a_generator_leaves_the_global_generator_alone(
    generator: ConditionalGenerator,
) -> None:
    before = torch.get_rng_state()
    type(generator).of_state(generator.as_state())
    assert torch.equal(torch.get_rng_state(), before)
