"""What a run is made of: its configuration, and the variants that are compared."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from examples.common.choices import check_one_of
from examples.common.run_folder import Config
from examples.common.solvers import build_solver

Samples = Literal["none", "random", "classifier", "mapped", "real"]
Regularizer = Literal["none", "pseudo-labels", "consistency"]
MetaGradient = Literal["exact", "finite-difference"]

# What is optimised in the latents; "none" leaves them as they are drawn.
Objectives = Literal["none", "gap", "validation", "both"]

FEWEST_FOR_VALIDATION = 4


@dataclass(frozen=True, kw_only=True)
class RunConfig(Config):
    """Everything that decides the result of a run; saved as ``config.json``.

    Attributes:
        variant: What it is called in tables, a key of ``VARIANTS`` or a name of its own.
        samples: Unlabelled images: none; generated, with latents drawn at "random", with classes
            as a source "classifier" sees the labelled images, or with "mapped" latents; or "real".
        regularizer: What is done with them.
        objectives: Of the mapping network: the feature "gap", the "validation" loss, or both.
        labels_per_class: Labelled images of each class of the target.
        validation_share: Share of them that is kept for the validation loss; with fewer than four
            a class, and at 0, the validation data is the training data itself.
        solver: Of cross-entropy and regulariser, as the call that builds a gradbalance solver.
        meta_solver: Of validation loss and gap, likewise.
        meta_gradient: Whether the virtual step is differentiated exactly.
        weight: Of the regulariser, λ.
        warmup: Share of the steps in which the regulariser's weight grows to λ: it must not rule
            before the labels have begun to.
        gap_weight: Of the feature gap, λ_gap.
        num_steps: Iterations.
        batch_size: Labelled images in a step; as many for the validation loss.
        num_samples: Unlabelled images in a step.
        lr: Learning rate at the start of the cosine schedule; also that of the virtual step.
        meta_lr: Learning rate of the mapping network, by Adam.
        weight_decay: Of SGD.
        data: Folder or zip of images, or None for the built-in ones.
        generator: File of the source's networks, "faces" for a published generator, or None for
            the built-in source.
        seed: Of the weights, the data and every draw.
        threads: CPU threads, or None for torch's default; sums depend on it in the last bits.
    """

    variant: str
    samples: Samples
    regularizer: Regularizer
    objectives: Objectives = "none"
    labels_per_class: int = 4
    validation_share: float = 0.25
    solver: str = "Uniform"
    meta_solver: str = "Uniform"
    meta_gradient: MetaGradient = "exact"
    weight: float = 1.0
    warmup: float = 0.25
    gap_weight: float = 1.0
    num_steps: int = 240
    batch_size: int = 32
    num_samples: int = 32
    lr: float = 0.02
    meta_lr: float = 1e-3
    weight_decay: float = 5e-4
    data: str | None = None
    generator: str | None = None
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        for option, choices in (
            ("samples", Samples),
            ("regularizer", Regularizer),
            ("objectives", Objectives),
            ("meta_gradient", MetaGradient),
        ):
            check_one_of(option, getattr(self, option), get_args(choices))
        if (self.samples == "none") != (self.regularizer == "none"):
            raise ValueError(
                "samples and a regularizer need each other, got "
                f"samples={self.samples!r} and regularizer={self.regularizer!r}"
            )
        if (self.samples == "mapped") != (self.objectives != "none"):
            raise ValueError(
                "mapped samples need objectives, and nothing else does, got "
                f"samples={self.samples!r} and objectives={self.objectives!r}"
            )
        if self.samples == "mapped" and self.regularizer != "consistency":
            raise ValueError(
                f"mapped samples are for consistency, got regularizer={self.regularizer!r}"
            )
        build_solver(self.solver)
        build_solver(self.meta_solver)
        for option in (
            *("labels_per_class", "num_steps", "batch_size", "num_samples", "lr", "meta_lr"),
            *("weight", "gap_weight", "threads"),
        ):
            value = getattr(self, option)
            if value is not None and value <= 0:
                raise ValueError(f"{option} must be positive, got {value}")
        for option in ("validation_share", "warmup"):
            if not 0 <= getattr(self, option) < 1:
                raise ValueError(f"{option} must be in [0, 1), got {getattr(self, option)}")

    @property
    def name(self) -> str:
        """Name of the run and of its folder."""
        return f"{self.variant}-{self.labels_per_class}-{self.seed}"

    def weight_at(self, step: int) -> float:
        """Return the weight of the regulariser at a step.

        Args:
            step: From 0.
        """
        num_growing = round(self.warmup * self.num_steps)
        return self.weight * min(1.0, (step + 1) / max(1, num_growing))

    @property
    def num_validation(self) -> int:
        """How many labelled images of a class are kept for the validation loss."""
        uses = self.objectives in ("validation", "both")
        if not uses or self.labels_per_class < FEWEST_FOR_VALIDATION:
            return 0
        if self.validation_share == 0:
            return 0
        wanted = round(self.validation_share * self.labels_per_class)
        return min(max(1, wanted), self.labels_per_class - 1)


VARIANTS: dict[str, dict[str, Any]] = {
    "labelled": {"samples": "none", "regularizer": "none"},
    "naive": {"samples": "random", "regularizer": "pseudo-labels"},
    "p-ssl": {"samples": "classifier", "regularizer": "pseudo-labels"},
    "consistency": {"samples": "random", "regularizer": "consistency"},
    "meta-gap": {"samples": "mapped", "regularizer": "consistency", "objectives": "gap"},
    "meta-validation": {
        "samples": "mapped",
        "regularizer": "consistency",
        "objectives": "validation",
    },
    "meta": {"samples": "mapped", "regularizer": "consistency", "objectives": "both"},
    "oracle": {"samples": "real", "regularizer": "pseudo-labels"},
}


def variant_config(variant: str, **options: Any) -> RunConfig:
    """Return a variant's configuration with some options changed.

    Args:
        variant: A key of ``VARIANTS``.
        options: Fields of ``RunConfig``; those that are None keep the variant's or the default.

    Raises:
        ValueError: The variant or one of the options is not possible.
    """
    check_one_of("variant", variant, VARIANTS)
    given = {key: value for key, value in options.items() if value is not None}
    return RunConfig(**{"variant": variant, **VARIANTS[variant], **given})
