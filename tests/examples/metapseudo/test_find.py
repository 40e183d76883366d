"""A map that is found before the classifier is trained."""

from collections.abc import Callable

import pytest
import torch

from examples.metapseudo.classifier import build_classifier
from examples.metapseudo.config import RunConfig
from examples.metapseudo.data.load import Target
from examples.metapseudo.find import find_map, labelled_classifier
from examples.metapseudo.generators.source import Source
from examples.metapseudo.train import Training

Small = Callable[..., RunConfig]


def test_the_gap_falls_and_the_share_of_target_like_samples_rises(
    small: Small, blind: Target, source: Source
) -> None:
    config = small("consistency-gap", map_steps=24, map_samples=24, meta_lr=0.1)
    found = find_map(config, blind, source, build_classifier(6, seed=0))
    judged = [record for record in found.records if record["kind"] == "latents"]
    assert [record["step"] for record in judged] == list(range(0, 25, 3)) == list(found.states)
    assert judged[-1]["gap"] < 0.75 * judged[0]["gap"]
    assert judged[0]["target_like"] < 0.05
    assert judged[-1]["target_like"] > 2 * judged[0]["target_like"]
    steps = [record for record in found.records if record["kind"] == "latents step"]
    assert [record["step"] for record in steps] == list(range(1, 25))
    assert all("loss/gap" in record for record in steps)
    assert not any(parameter.requires_grad for parameter in found.mapping.parameters())
    for name, value in found.mapping.state_dict().items():
        assert torch.equal(value, found.states[24][name])
        assert not torch.equal(value, found.states[0][name])


@pytest.mark.parametrize("variant", ["validation", "both-finite", "both-balanced"])
def test_every_objective_can_be_descended(
    small: Small, blind: Target, source: Source, variant: str
) -> None:
    config = small(variant, map_steps=1)
    model = build_classifier(6, seed=0)
    before = [parameter.clone() for parameter in model.parameters()]
    found = find_map(config, blind, source, model)
    losses = [key for key in found.records[1] if key.startswith("loss/")]
    expected = ["loss/validation"] if variant == "validation" else ["loss/validation", "loss/gap"]
    assert losses == expected
    for parameter, value in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, value)


def test_of_another_generator_it_is_not_known_what_is_like_the_target(
    small: Small, blind: Target, conditional: Source
) -> None:
    config = small("consistency-gap", map_steps=1, generator="autoencoder")
    found = find_map(config, blind, conditional, build_classifier(6, seed=0))
    assert set(found.records[0]) == {"kind", "step", "gap"}


def test_the_labelled_classifier_is_that_of_labels_alone(small: Small, blind: Target) -> None:
    config = small("consistency-gap").of_labels()
    model = labelled_classifier(config, blind, 0)
    training = Training(small("labels"), blind, None)
    for _ in range(4):
        training.step()
    for one, other in zip(model.parameters(), training.model.parameters(), strict=True):
        assert torch.equal(one, other)
    other = labelled_classifier(config, blind, 1)
    assert not torch.equal(model.head.weight, other.head.weight), "with fewer labels"
