"""A step of the training: a classifier learns from few labels and from unlabelled samples.

How a run is taken to its end, logged and resumed, is in ``run/loop.py``.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

import gradbalance as gb
from examples.common import transforms
from examples.common.divergence import finite
from examples.common.solvers import build_solver
from examples.common.training import Losses, TrainingState, balanced_step
from examples.metapseudo import augment
from examples.metapseudo.batch import Batch, draw_batch, split
from examples.metapseudo.classifier import accuracy, build_classifier
from examples.metapseudo.config import RunConfig
from examples.metapseudo.data.load import Labelled, Target
from examples.metapseudo.gaps import GAPS
from examples.metapseudo.generators.source import Source
from examples.metapseudo.latents import LatentOptimization
from examples.metapseudo.regularizers import FreeMatch, consistency
from examples.metapseudo.samples import GeneratedImages, build_samples, share_of_target

_NUM_FOR_GAP = 256


class Training(TrainingState):
    """A run between two of its steps: the classifier, its samples, and the map of the latents.

    Args:
        config: The options of the run.
        target: The images to be learned, and to be tested on. Its unlabelled images are used by
            variants with real samples only.
        source: The generator of the samples, or None if the run needs none.
        mapping: The map of the latents, if it was found before.
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
        # Once the map is found, the labels kept for its validation are learned from as well.
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
        """Take one step of the classifier; in the alternating order, one of the map before it.

        Returns:
            The report of the classifier's step, and that of the map's step or None.
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
        """Tell the balancers that an epoch is over; here that is a part of the run."""
        self.balancer.end_epoch()
        if self.latents is not None:
            self.latents.balancer.end_epoch()

    def _losses(self, batch: Batch) -> Callable[[], Losses]:
        """The losses of a step; pseudo-labels and targets are those of the present weights."""
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
        """Return the test accuracy, and how similar the samples are to the target.

        ``gap`` is the MMD between samples and test images in the features of this classifier,
        whatever the latents were optimised for. ``target_like`` is the share of target-like
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


def ends_of_parts(num_steps: int, num_parts: int) -> list[int]:
    """Return the steps after which a part of a run ends.

    Args:
        num_steps: Number of steps in the run.
        num_parts: Number of parts, as equal as possible; with fewer steps than that, there is a
            part for each step.
    """
    return sorted({-(-num_steps * part // num_parts) for part in range(1, num_parts + 1)})
