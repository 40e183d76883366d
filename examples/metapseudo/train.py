"""Train one run: a classifier on few labels and on what its samples give."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from rich.console import Console
from torch import nn
from torch.nn import functional

import gradbalance as gb
from examples.common import transforms
from examples.common.divergence import finite, tells_divergence
from examples.common.run_folder import RunFolder
from examples.common.solvers import build_solver
from examples.common.training import Losses, TrainingState, balanced_step
from examples.metapseudo import augment
from examples.metapseudo.batch import Batch, draw_batch, split
from examples.metapseudo.classifier import accuracy, build_classifier
from examples.metapseudo.consistency import consistency
from examples.metapseudo.data import Labelled, Target
from examples.metapseudo.freematch import FreeMatch
from examples.metapseudo.gaps import GAPS
from examples.metapseudo.latents import LatentOptimization
from examples.metapseudo.mapping import build_mapping
from examples.metapseudo.samples import (
    GeneratedImages,
    PerfectImages,
    RealImages,
    share_of_target,
    shares_of,
)
from examples.metapseudo.source import Source
from examples.metapseudo.variants import RunConfig

NUM_PARTS = 4  # Of a run.
_NUM_FOR_GAP = 256


class Training(TrainingState):
    """A run between two of its steps: the classifier, its samples, and the map of the latents.

    Args:
        config: The run.
        target: What is learned; its unlabelled images are looked at for real samples only.
        source: Where samples come from, or None where there are none.
        mapping: The map of the latents, where it was found first.
    """

    def __init__(
        self,
        config: RunConfig,
        target: Target,
        source: Source | None,
        mapping: nn.Module | None = None,
    ) -> None:
        self.config = config
        self.target = target
        classes = target.labelled.classes
        alternating = config.objectives != "none" and config.order == "alternating"
        # Labels that the map was judged on are free to be learned from, once it is found.
        num_validation = config.num_validation if alternating else 0
        self.train_set, self.validation_set = split(target.labelled, num_validation)
        self.model = build_classifier(len(classes), seed=config.seed)
        self.samples = build_samples(config, target, source, mapping)
        self.freematch = FreeMatch(len(classes))
        names = ["labels"] if config.regularizer == "none" else ["labels", config.regularizer]
        super().__init__(
            self.model,
            gb.Balancer(build_solver(config.solver), scale="sum", tasks=names),
            lr=config.lr,
            weight_decay=config.weight_decay,
            num_steps=config.num_steps,
            seed=config.seed,
        )
        self.stateful["freematch"] = self.freematch
        self.latents: LatentOptimization | None = None
        if alternating:
            assert isinstance(self.samples, GeneratedImages)
            self.latents = LatentOptimization(config, self.samples, self.model, target)
            self.stateful |= self.latents.parts()
        elif mapping is not None:
            self.stateful["mapping"] = mapping

    def step(self) -> tuple[gb.Report, gb.Report | None]:
        """Take one step, first of the latents, if it is their turn, and then of the classifier.

        Returns:
            The classifier's report and the latents'.
        """
        batch = self._draw(self.train_set)
        latents_report = None
        if self.latents is not None:
            validation = self._draw(self.validation_set)
            lr = float(self.schedule.get_last_lr()[0])
            weight = self.config.weight_at(self.step_done)
            latents_report = self.latents.step(
                batch, validation, lr=lr, weight=weight, draws=self.generator
            )
        report = balanced_step(self.balancer, self.optimizer, self._losses(batch))
        self.count_step()
        return report, latents_report

    def end_epoch(self) -> None:
        """Tell the balancers that an epoch is over: a quarter of the run, here."""
        self.balancer.end_epoch()
        if self.latents is not None:
            self.latents.balancer.end_epoch()

    def _losses(self, batch: Batch) -> Callable[[], Losses]:
        """What the classifier is trained on; pseudo-labels and targets are those of now."""
        if self.samples is None:
            return lambda: {
                "labels": functional.cross_entropy(self.model(batch.images)[1], batch.labels)
            }
        unlabelled = self.samples.draw(self.config.num_samples, self.generator)
        with torch.no_grad():
            weak_features, weak_logits = self.model(augment.weak(unlabelled, self.generator))
        strong = augment.strong(unlabelled, self.generator)
        weight = self.config.weight_at(self.step_done)
        if self.config.regularizer == "pseudo-labels":
            labels, passed = self.freematch.targets(weak_logits)

        def losses() -> Losses:
            features, logits = self.model(torch.cat([batch.images, strong]))
            num_labelled = len(batch.labels)
            if self.config.regularizer == "pseudo-labels":
                regularizer = self.freematch.loss(logits[num_labelled:], labels, passed)
            else:
                regularizer = consistency(features[num_labelled:], weak_features)
            return {
                "labels": functional.cross_entropy(logits[:num_labelled], batch.labels),
                self.config.regularizer: weight * regularizer,
            }

        return losses

    def _draw(self, images: Labelled) -> Batch:
        return draw_batch(images, self.config.batch_size, self.generator)

    @torch.no_grad()
    def judge(self) -> dict[str, float]:
        """Return the test accuracy, and how like the target the samples are.

        ``gap`` is the MMD of samples and test images, in the classifier's own features and
        whatever its latents were optimised for; ``target_like`` is the share of target-like
        samples, where it is known.
        """
        found = {"accuracy": accuracy(self.model, self.target.test.images, self.target.test.labels)}
        if self.samples is None:
            return found
        draws = torch.Generator().manual_seed(self.config.seed)
        synthetic = self.samples.draw(_NUM_FOR_GAP, draws)
        real = transforms.to_float(self.target.test.images[:_NUM_FOR_GAP])
        found["gap"] = finite("the gap", float(GAPS["mmd"](self.model, real, synthetic)))
        if isinstance(self.samples, GeneratedImages) and self.config.knows_target:
            found["target_like"] = share_of_target(self.samples, draws)
        return found


def build_samples(
    config: RunConfig, target: Target, source: Source | None, mapping: nn.Module | None = None
) -> RealImages | PerfectImages | GeneratedImages | None:
    """Return where a run's unlabelled images come from.

    Args:
        config: The run.
        target: What is learned.
        source: The generator and the classifier of the source, or None where it is not needed.
        mapping: The map of the latents, where it was found first.
    """
    if config.samples == "none":
        return None
    if config.samples == "real":
        return RealImages(target.unlabelled)
    assert source is not None
    if config.samples == "perfect":
        return PerfectImages(source.generator)
    shares = None
    if config.samples == "classes":
        if source.classifier is None:
            raise ValueError(
                "samples='classes' needs a classifier of the generator's classes: of an "
                "autoencoder, not of the renderer and not of a published generator"
            )
        shares = shares_of(source.classifier, target)
    if config.samples == "optimized" and config.order == "alternating":
        mapping = build_mapping(config.map, source.generator.latent_size, seed=config.seed)
    assert (mapping is not None) == (config.samples == "optimized")
    return GeneratedImages(source.generator, shares, mapping)


def ends_of_parts(num_steps: int, num_parts: int) -> list[int]:
    """Return the steps after which a part of a run ends.

    Args:
        num_steps: Of the run.
        num_parts: As equal as can be; there are fewer where there are fewer steps.
    """
    return sorted({-(-num_steps * part // num_parts) for part in range(1, num_parts + 1)})


def train(
    config: RunConfig,
    target: Target,
    source: Source | None,
    folder: RunFolder,
    *,
    mapping: nn.Module | None = None,
    records: Iterable[dict[str, Any]] = (),
    num_parts: int = NUM_PARTS,
    resume: bool = False,
    console: Console | None = None,
) -> Training:
    """Train a run to its end, with an evaluation and a checkpoint after every part of it.

    Args:
        config: The run.
        target: What is learned.
        source: Where samples come from, or None where there are none.
        folder: Where its files go.
        mapping: The map of the latents, where it was found first.
        records: How it was found, to be logged before all else.
        num_parts: Of the run, as equal as can be.
        resume: Continue the run in the folder, if there is one.
        console: Where to show the progress.

    Raises:
        ValueError: The training diverges, or the run in the folder is another one.
    """
    training = Training(config, target, source, mapping)
    training.start(config, folder, resume=resume)
    console = console or Console(quiet=True)
    if training.step_done == 0:
        for record in records:
            folder.log(record)
        folder.log({"kind": "evaluation", "step": 0, **training.judge()})
    rates = {"--lr": config.lr}
    if training.latents is not None:
        rates["--meta-lr"] = config.map_lr
    for end in training.parts(folder, ends_of_parts(config.num_steps, num_parts)):
        while training.step_done < end:
            when = f"at step {training.step_done + 1}"
            with tells_divergence(config.name, when, rates):
                report, of_latents = training.step()
            record = {"kind": "step", "step": training.step_done, **report.as_dict()}
            if of_latents is not None:
                record |= of_latents.as_dict("latents/")
            folder.log(record)
        training.end_epoch()
        with tells_divergence(config.name, f"by step {end}", rates):
            found = training.judge()
        folder.log({"kind": "evaluation", "step": end, **found})
        console.print(_line(config, end, report, found), soft_wrap=True, highlight=False)
    return training


def _line(config: RunConfig, step: int, report: gb.Report, found: dict[str, float]) -> str:
    losses = "  ".join(f"{n} {v:.3f}" for n, v in zip(report.names, report.losses, strict=True))
    judged = f"test accuracy {100 * found['accuracy']:.1f} %"
    if "target_like" in found:
        judged += f"  target-like samples {100 * found['target_like']:.0f} %"
    return f"{config.name}  step {step}/{config.num_steps}  {losses}  {judged}"
