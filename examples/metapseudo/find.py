"""Find the map of the latents before the classifier is trained, in the features of another one.

That other classifier is trained on the labelled images alone.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from examples.common.divergence import tells_divergence
from examples.metapseudo.batch import draw_batch, split
from examples.metapseudo.classifier import Classifier
from examples.metapseudo.config import RunConfig
from examples.metapseudo.data.load import Target
from examples.metapseudo.generators.source import Source
from examples.metapseudo.latents import LatentOptimization
from examples.metapseudo.mapping import build_mapping
from examples.metapseudo.samples import GeneratedImages
from examples.metapseudo.train import Training, ends_of_parts

NUM_PARTS = 8  # The map is evaluated after each eighth of its steps.

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class FoundMap:
    """A map of the latents, and how it was found.

    Attributes:
        mapping: The map.
        records: Lines for the log: one for each step, and the evaluations.
        states: State of the map at its start and after every eighth of the steps, by step.
    """

    mapping: nn.Module
    records: list[Record]
    states: dict[int, dict[str, Any]]


def labelled_classifier(config: RunConfig, target: Target, num_validation: int) -> Classifier:
    """Return a classifier that was trained on labels alone.

    Args:
        config: The options of a run without samples.
        target: The images to be learned, and to be tested on.
        num_validation: Number of labelled images of each class that are left out.

    Raises:
        ValueError: The training diverges.
    """
    train_set, _ = split(target.labelled, num_validation)
    training = Training(config, replace(target, labelled=train_set), None)
    while training.step_done < config.num_steps:
        when = f"on labels alone at step {training.step_done + 1}"
        with tells_divergence(config.name, when, {"--lr": config.lr}):
            training.step()
    return training.model


def find_map(config: RunConfig, target: Target, source: Source, model: Classifier) -> FoundMap:
    """Take all steps of the map of a run.

    Args:
        config: The options of the run.
        target: The images to be learned, and to be tested on.
        source: The generator of the samples.
        model: A classifier trained on labels alone, from ``labelled_classifier``.

    Raises:
        ValueError: The map diverges.
    """
    mapping = build_mapping(config.map, source.generator.latent_size, seed=config.seed)
    samples = GeneratedImages(source.generator, mapping=mapping)
    latents = LatentOptimization(config, samples, model, target)
    train_set, validation_set = split(target.labelled, config.num_validation)
    draws = torch.Generator().manual_seed(config.seed)
    records: list[Record] = []
    states: dict[int, dict[str, Any]] = {}

    rates = {"--lr": config.lr, "--meta-lr": config.map_lr}

    def look(step: int) -> None:
        with tells_divergence(config.name, f"by step {step}", rates):
            records.append({"kind": "latents", "step": step, **latents.judge()})
        states[step] = copy.deepcopy(mapping.state_dict())

    look(0)
    ends = ends_of_parts(config.map_steps, NUM_PARTS)
    for step in range(1, config.map_steps + 1):
        batch = draw_batch(train_set, config.batch_size, draws)
        validation = draw_batch(validation_set, config.batch_size, draws)
        with tells_divergence(config.name, f"at step {step}", rates):
            report = latents.step(
                batch, validation, lr=config.lr, weight=config.weight, draws=draws
            )
        records.append({"kind": "latents step", "step": step, **report.as_dict()})
        if step in ends:
            look(step)
            latents.balancer.end_epoch()
    return FoundMap(mapping=mapping.requires_grad_(False), records=records, states=states)
