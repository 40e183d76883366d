"""Training: what a step of each variant does."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import gradbalance as gb
from examples.metapseudo import augment
from examples.metapseudo.batch import draw_batch
from examples.metapseudo.classifier import probabilities
from examples.metapseudo.config import RunConfig
from examples.metapseudo.data.load import Target
from examples.metapseudo.data.target import is_target_like
from examples.metapseudo.gaps import mean_gap, mmd_gap, of_all_blocks
from examples.metapseudo.generators.renderer import Renderer
from examples.metapseudo.generators.source import Source
from examples.metapseudo.latents import LatentOptimization
from examples.metapseudo.mapping import MappingNetwork, build_mapping
from examples.metapseudo.regularizers import consistency
from examples.metapseudo.samples import GeneratedImages, PerfectImages, RealImages
from examples.metapseudo.train import Training
from examples.metapseudo.variants import VARIANTS

Small = Callable[..., RunConfig]

TASKS = {"none": ("labels",)} | {
    name: ("labels", name) for name in ("consistency", "pseudo-labels")
}
META_TASKS = {
    "consistency-gap": ("gap",),
    "validation": ("validation",),
    "both": ("validation", "gap"),
    "paper": ("validation", "gap"),
}


@pytest.fixture
def alternating(small: Small) -> Small:
    """Make the configuration of a variant whose latents are optimised step by step."""

    def make(variant: str, **options: object) -> RunConfig:
        return small(variant, order="alternating", **options)

    return make


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def begun(config: RunConfig, target: Target, source: Source) -> Training:
    """A run whose map, if it is to be found first, is the identity."""
    mapping = None
    if config.samples == "optimized" and config.order == "first":
        mapping = build_mapping(config.map, source.generator.latent_size, seed=0)
    return Training(config, target, source, mapping)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_takes_a_step_and_leaves_the_source_as_it_was(
    small: Small,
    target: Target,
    blind: Target,
    source: Source,
    conditional: Source,
    variant: str,
) -> None:
    # Who is not given real samples never sees an unlabelled image.
    known = target if variant.endswith("-real") else blind
    config = small(variant)
    if config.samples == "classes":
        config, source = replace(config, generator="autoencoder"), conditional
    training = begun(config, known, source)
    networks = [net for net in (source.generator, source.classifier) if net is not None]
    before = [copy.deepcopy(network.state_dict()) for network in networks]
    start = copy.deepcopy(training.model.state_dict())
    report, of_latents = training.step()
    assert training.step_done == 1
    assert report.names == TASKS[config.regularizer]
    assert (report.losses > 0).all()
    for name, weight in training.model.state_dict().items():
        assert not torch.equal(weight, start[name]), name
    assert (of_latents is not None) == (variant == "paper"), "the others' map is found first"
    for network, state in zip(networks, before, strict=True):
        assert all(parameter.grad is None for parameter in network.parameters())
        for name, value in network.state_dict().items():
            assert torch.equal(value, state[name]), name
    training.judge()


@pytest.mark.parametrize("variant", META_TASKS)
def test_the_latents_step_moves_the_mapping_and_not_the_classifier(
    alternating: Small, blind: Target, source: Source, variant: str
) -> None:
    training = Training(alternating(variant, map="mlp"), blind, source)
    assert training.latents is not None
    mapping = training.latents.samples.mapping
    assert isinstance(mapping, MappingNetwork)
    start = copy.deepcopy(training.model.state_dict())
    batch = draw_batch(training.train_set, 8, draws())
    # V and c move at the first step, and U and b, whose gradient has the factor V, at the second.
    for moving in ((mapping.out.weight, mapping.out.bias), mapping.parameters()):
        before = {parameter: parameter.detach().clone() for parameter in moving}
        report = training.latents.step(batch, batch, lr=0.05, weight=1.0, draws=draws())
        assert report.names == META_TASKS[variant]
        for parameter, value in before.items():
            assert not torch.equal(parameter, value)
    for name, parameter in training.model.named_parameters():
        assert parameter.grad is None, name
        assert parameter.requires_grad, name
        assert torch.equal(parameter, start[name]), name
    latents, classes = training.latents.samples.latents(4, draws())
    moved = training.latents.samples.synthesize(latents, classes)
    assert not torch.equal(moved, source.generator(latents, classes))


def test_only_real_samples_are_the_unlabelled_images(
    small: Small, target: Target, blind: Target, source: Source
) -> None:
    samples = Training(small("freematch-real"), target, source).samples
    assert isinstance(samples, RealImages)
    known = {image.numpy().tobytes() for image in target.unlabelled}
    drawn = (255 * samples.draw(20, draws())).round().to(torch.uint8)
    assert {image.numpy().tobytes() for image in drawn} <= known
    with pytest.raises(TypeError):
        Training(small("freematch-real"), blind, source).step()


def test_where_the_samples_of_each_variant_come_from(
    small: Small, target: Target, source: Source, conditional: Source
) -> None:
    for variant in VARIANTS:
        config = small(variant)
        if config.samples == "classes":
            seen = probabilities(conditional.classifier, target.labelled.images)
            samples = Training(config, target, conditional).samples
            assert isinstance(samples, GeneratedImages)
            torch.testing.assert_close(samples.shares, seen.mean(dim=0))
            assert float(samples.shares.sum()) == pytest.approx(1)
            continue
        samples = begun(config, target, source).samples
        kinds = {"none": type(None), "real": RealImages, "perfect": PerfectImages}
        assert isinstance(samples, kinds.get(config.samples, GeneratedImages))
        if isinstance(samples, GeneratedImages):
            assert (samples.mapping is not None) == (config.samples == "optimized")
            assert samples.shares is None


def test_perfect_samples_are_the_targets_own_latents(
    small: Small, blind: Target, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    render = Renderer.forward

    def look(self: Renderer, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        seen.append(latents)
        return render(self, latents, classes)

    monkeypatch.setattr(Renderer, "forward", look)
    Training(small("consistency-perfect"), blind, source).step()
    assert is_target_like(torch.cat(seen)).all()


def test_classes_by_a_source_classifier_need_one(
    small: Small, blind: Target, source: Source
) -> None:
    with pytest.raises(ValueError, match="needs a classifier of the generator's classes"):
        Training(small("p-ssl"), blind, source)


@pytest.mark.parametrize(("order", "kept"), [("first", 0), ("alternating", 1)])
def test_labels_for_validation_are_learned_from_once_the_map_is_found(
    small: Small, blind: Target, source: Source, order: str, kept: int
) -> None:
    training = begun(small("both", order=order), blind, source)
    assert len(training.train_set) == 6 * (4 - kept)


def test_a_uniform_step_is_that_of_the_sum(small: Small, blind: Target, source: Source) -> None:
    config = small(
        "consistency-random", weight=2.8, num_steps=8, warmup=0.5
    )  # 0.7 at the first step
    ours, by_hand = Training(config, blind, source), Training(config, blind, source)
    report, _ = ours.step()

    model, drawn = by_hand.model, by_hand.generator
    batch = draw_batch(blind.labelled, 8, drawn)
    latents, classes = source.generator.draw(8, drawn)
    images = source.generator(latents, classes)
    weak, strong = augment.weak(images, drawn), augment.strong(images, drawn)
    on_labels = functional.cross_entropy(model(batch.images)[1], batch.labels)
    regularizer = 0.7 * consistency(model.features(strong), model.features(weak))
    (on_labels + regularizer).backward()
    by_hand.optimizer.step()
    assert report.losses == pytest.approx([on_labels.item(), regularizer.item()], rel=1e-5)
    for one, other in zip(ours.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_latents_are_judged_by_what_a_step_of_sgd_on_them_does(
    alternating: Small, blind: Target, source: Source
) -> None:
    config = alternating("both", gap="mean", weight=0.7, gap_weight=3.0)
    training = Training(config, blind, source)
    assert training.latents is not None
    train_set, validation_set = training.train_set, training.validation_set
    assert (len(train_set), len(validation_set)) == (18, 6)
    batch, validation = draw_batch(train_set, 8, draws(1)), draw_batch(validation_set, 8, draws(2))
    report = training.latents.step(batch, validation, lr=0.2, weight=0.7, draws=draws(3))

    model, drawn = copy.deepcopy(training.model), draws(3)
    latents, classes = source.generator.draw(8, drawn)
    order = torch.randperm(24, generator=drawn)
    real = augment.weak(blind.labelled.images[order[:8]] / 255, drawn)
    images = source.generator(latents, classes)  # the map began as the identity
    weak, strong = augment.weak(images, drawn), augment.strong(images, drawn)
    features = model.features(weak).detach()
    gap = mean_gap(model.features(real), features)
    loss = functional.cross_entropy(model(batch.images)[1], batch.labels)
    loss = loss + 0.7 * consistency(model.features(strong), features)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.optim.SGD(model.parameters(), lr=0.2).step()
    after = functional.cross_entropy(model(validation.images)[1], validation.labels)
    assert report.losses == pytest.approx([after.item(), 3 * gap.item()], rel=1e-4)


def test_the_virtual_step_is_taken_on_the_training_and_judged_on_the_validation_images(
    alternating: Small, blind: Target, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(alternating("both", warmup=0.75), blind, source)
    assert training.latents is not None
    seen = {}

    def step(labelled: object, validation: object, **others: object) -> None:
        seen.update(labelled=labelled, validation=validation, **others)

    monkeypatch.setattr(training.latents, "step", step)
    training.step()
    state = training.generator.get_state()
    training.step()
    training.generator.set_state(state)
    for name, images in (("labelled", training.train_set), ("validation", training.validation_set)):
        expected = draw_batch(images, 8, training.generator)
        assert torch.equal(seen[name].images, expected.images), name
    assert seen["lr"] == pytest.approx(0.02 * 0.853553), "that of the step to come"
    assert seen["weight"] == pytest.approx(2 / 3)


class Smooth(nn.Module):
    """A classifier without kinks, whose finite differences are close to its derivatives."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 16), nn.Tanh())
        self.head = nn.Linear(16, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(images)
        return features, self.head(features)


def test_both_meta_gradients_move_the_mapping_the_same_way(
    alternating: Small, blind: Target, source: Source
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Smooth(len(blind.labelled.classes))
    found = []
    for meta_gradient in ("exact", "finite-difference"):
        config = alternating("validation", map="mlp", meta_gradient=meta_gradient)
        training = Training(config, blind, source)
        assert isinstance(training.samples, GeneratedImages)
        latents = LatentOptimization(config, training.samples, model, blind)  # type: ignore[arg-type]
        batches = [draw_batch(training.train_set, 8, draws(seed)) for seed in (1, 2)]
        latents.step(*batches, lr=0.05, weight=1.0, draws=draws(3))
        assert isinstance(training.samples.mapping, MappingNetwork)
        gradient = training.samples.mapping.out.weight.grad
        assert gradient is not None
        found.append(gradient.flatten())
    assert not torch.equal(found[0], found[1])
    # It would be less, were the features that are to be kept not those of the unmoved classifier.
    assert functional.cosine_similarity(found[0], found[1], dim=0) > 0.98


def test_the_head_gets_no_gradient_from_consistency(
    small: Small, blind: Target, source: Source
) -> None:
    training = Training(small("consistency-random"), blind, source)
    losses = training._losses(draw_batch(training.train_set, 8, draws()))()
    head, trunk = training.model.head.parameters(), training.model.trunk.parameters()
    weights = [*head, *trunk]
    of_labels, of_consistency = (
        torch.autograd.grad(losses[name], weights, retain_graph=True, allow_unused=True)
        for name in ("labels", "consistency")
    )
    assert all(gradient is not None for gradient in of_labels)
    assert of_consistency[:2] == (None, None)
    assert all(gradient.abs().max() > 0 for gradient in of_consistency[2:])


def test_pseudo_labels_under_their_threshold_give_no_gradient(
    small: Small, blind: Target, source: Source
) -> None:
    training = Training(small("freematch-random"), blind, source)
    training.freematch.threshold = torch.tensor(1e6)
    losses = training._losses(draw_batch(training.train_set, 8, draws()))()
    assert losses["pseudo-labels"] == 0
    assert float(training.freematch.threshold) < 1e6, "updated once a step"


@pytest.mark.parametrize("solver", ["FAMO", "PCGrad", "MGDA(normalization='loss+')", "GradNorm"])
@pytest.mark.parametrize("variant", ["labels", "freematch-random", "paper"])
def test_any_solver_balances_the_classifier_and_the_latents(
    small: Small, blind: Target, source: Source, solver: str, variant: str
) -> None:
    config = small(variant, solver=solver, meta_solver=solver)
    training = Training(config, blind, source)
    for _ in range(2):
        for report in training.step():
            if report is not None:
                assert report.solver == solver.partition("(")[0]
                assert report.weights.sum() == pytest.approx(len(report.names)), "scaled"


def test_a_solver_is_told_the_same_losses_after_the_step(
    alternating: Small, blind: Target, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    monkeypatch.setattr(gb.FAMO, "after_step", lambda self, losses: told.append(dict(losses)))
    # Steps that are too small to change much: the losses are of the same draws then.
    config = alternating(
        "both", gap="mean", solver="FAMO", meta_solver="FAMO", lr=1e-6, meta_lr=1e-6
    )
    reports = Training(config, blind, source).step()
    classifier, latents = reports
    assert latents is not None
    for report, losses in zip((latents, classifier), told, strict=True):
        assert list(losses) == list(report.names)
        assert list(losses.values()) == pytest.approx(report.losses, rel=1e-3)
        assert any(losses[n] != loss for n, loss in zip(report.names, report.losses, strict=True))


def test_the_gap_is_that_of_samples_and_test_images(
    small: Small, target: Target, source: Source
) -> None:
    assert "gap" not in Training(small("labels"), target, source).judge()
    training = Training(small("freematch-random"), target, source)
    with torch.no_grad():
        assert isinstance(training.samples, GeneratedImages)
        drawn = training.samples.draw(256, draws(0))
        shown = target.test.images / 255
        features = [of_all_blocks(training.model, images) for images in (shown, drawn)]
    random = training.judge()["gap"]
    assert random == pytest.approx(float(mmd_gap(*features)), rel=1e-4)
    for variant in ("consistency-perfect", "freematch-real"):
        assert Training(small(variant), target, source).judge()["gap"] < random / 5


def test_the_thresholds_are_part_of_a_checkpoint(
    small: Small, blind: Target, source: Source
) -> None:
    one, other = (Training(small("freematch-random"), blind, source) for _ in range(2))
    one.step()
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.freematch.shares, other.freematch.shares)
    one_report, other_report = one.step()[0], other.step()[0]
    assert (one_report.losses == other_report.losses).all()
