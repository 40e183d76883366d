"""A step of the map of the latents: its samples are to help, and to be like the labelled images.

Yamaguchi, Generative Semi-supervised Learning with Meta-Optimized Synthetic Samples, ACML 2023
(arXiv 2309.16143).
"""

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

import gradbalance as gb
from examples.common import transforms
from examples.common.divergence import finite
from examples.common.solvers import build_solver
from examples.common.training import Losses, balanced_step
from examples.metapseudo import augment
from examples.metapseudo.batch import Batch
from examples.metapseudo.classifier import Classifier
from examples.metapseudo.config import RunConfig
from examples.metapseudo.data.load import Target
from examples.metapseudo.gaps import GAPS
from examples.metapseudo.meta_gradient import META_GRADIENTS, Loss, Parameters, detached
from examples.metapseudo.regularizers import consistency
from examples.metapseudo.samples import GeneratedImages, share_of_target

_NUM_JUDGED = 128


class LatentOptimization:
    r"""The optimisation of the map M, whose samples are x̃ = G(M(z), c).

    .. math::
        \theta' = \theta - \eta \nabla_\theta \big[ \mathrm{CE}(f_\theta(x), y) +
        \lambda\, \text{consistency}(\tilde x) \big], \qquad
        \min_M \; \mathrm{CE}(f_{\theta'}(x_v), y_v) +
        \lambda_\text{gap}\, \text{gap}_\theta(x, \tilde x)

    The gap uses all labelled images, as it does not need their labels.

    Args:
        config: The options of the run; its ``objectives`` say which of the two terms there are.
        samples: The samples, with the map.
        model: The classifier, whose weights do not change here.
        target: The target; samples are to be like its labelled images.
    """

    def __init__(
        self, config: RunConfig, samples: GeneratedImages, model: Classifier, target: Target
    ) -> None:
        assert samples.mapping is not None
        self.config = config
        self.samples = samples
        self.model = model
        self.real = target.labelled.images
        self.gap = GAPS[config.gap]
        self.optimizer = torch.optim.Adam(samples.mapping.parameters(), lr=config.map_lr)
        tasks = ["validation", "gap"] if config.objectives == "both" else [config.objectives]
        self.balancer = gb.Balancer(build_solver(config.meta_solver), scale="sum", tasks=tasks)

    def parts(self) -> dict[str, Any]:
        """Return what a checkpoint holds, by name."""
        return {
            "mapping": self.samples.mapping,
            "meta_optimizer": self.optimizer,
            "meta_balancer": self.balancer,
        }

    def step(
        self,
        labelled: Batch,
        validation: Batch,
        *,
        lr: float,
        weight: float,
        draws: torch.Generator,
    ) -> gb.Report:
        """Take a step of the map.

        Args:
            labelled: Labelled images for the virtual step.
            validation: Labelled images for the validation loss after it.
            lr: Learning rate η of the virtual step.
            weight: Weight λ of the consistency term in the virtual step.
            draws: Generator that draws latents, real images and augmentations, on the CPU.

        Returns:
            The report of the balancer of validation loss and gap.
        """
        latents, classes = self.samples.latents(self.config.map_samples, draws)
        real = augment.weak(self._draw_real(draws), draws)
        state = draws.get_state()
        parameters = detached(dict(self.model.named_parameters()))

        def losses() -> Losses:
            draws.set_state(state)  # the same augmentations, however often it is called
            synthetic = self.samples.synthesize(latents, classes)
            weak = augment.weak(synthetic, draws)
            found: Losses = {}
            if self.config.objectives in ("validation", "both"):
                with torch.no_grad():
                    targets = self._call(parameters, weak)[0]
                strong = augment.strong(synthetic, draws)
                step = self._virtual_step(labelled, strong, targets, weight)
                outer = self._on_labels(validation)
                virtual = META_GRADIENTS[self.config.meta_gradient]
                found["validation"] = virtual(step, outer, parameters, lr)
            if self.config.objectives in ("gap", "both"):
                found["gap"] = self.config.gap_weight * self.gap(self.model, real, weak)
            return found

        self.model.requires_grad_(False)
        try:
            return balanced_step(self.balancer, self.optimizer, losses)
        finally:
            self.model.requires_grad_(True)

    def judge(self) -> dict[str, float]:
        """Return the gap, always on the same draws, and the share of target-like samples if known.

        The gap is the one in the options of the run, whatever the objectives.
        """
        draws = torch.Generator().manual_seed(self.config.seed)
        with torch.no_grad():
            drawn = self.samples.draw(_NUM_JUDGED, draws)
            gap = float(self.gap(self.model, transforms.to_float(self.real), drawn))
        found = {"gap": finite("the gap", gap)}
        if self.config.knows_target:
            found["target_like"] = share_of_target(self.samples, draws)
        return found

    def _draw_real(self, draws: torch.Generator) -> Tensor:
        """As many real images as samples; if there are fewer, they are repeated evenly."""
        order = torch.randperm(len(self.real), generator=draws)
        chosen = order[torch.arange(self.config.map_samples) % len(order)]
        return transforms.to_float(self.real[chosen])

    def _virtual_step(
        self, labelled: Batch, strong: Tensor, targets: Tensor, weight: float
    ) -> Loss:
        """The loss of the classifier's virtual step; the targets are constants."""

        def inner(theta: Parameters) -> Tensor:
            features, logits = self._call(theta, torch.cat([labelled.images, strong]))
            num_labelled = len(labelled.labels)
            on_labels = functional.cross_entropy(logits[:num_labelled], labelled.labels)
            return on_labels + weight * consistency(features[num_labelled:], targets)

        return inner

    def _on_labels(self, batch: Batch) -> Loss:
        return lambda theta: functional.cross_entropy(
            self._call(theta, batch.images)[1], batch.labels
        )

    def _call(self, parameters: Parameters, images: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = functional_call(self.model, parameters, (images,))
        return features, logits
