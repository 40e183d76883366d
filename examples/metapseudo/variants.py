"""What a run is made of: its configuration, and the variants that are compared."""

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from examples.common.checks import check_positive, check_seed
from examples.common.choices import check_one_of, preset_options
from examples.common.run_folder import Config
from examples.common.solvers import build_solver
from examples.metapseudo.gaps import GapName
from examples.metapseudo.mapping import META_LR, MapName

Samples = Literal["none", "random", "classes", "optimized", "perfect", "real"]
Regularizer = Literal["none", "pseudo-labels", "consistency"]
MetaGradient = Literal["exact", "finite-difference"]

# What is optimised in the latents; "none" leaves them as they are drawn.
Objectives = Literal["none", "gap", "validation", "both"]

# When: before the classifier is trained, or a step of each in turn, as in the paper.
Order = Literal["first", "alternating"]

FEWEST_FOR_VALIDATION = 4

RENDERER = "renderer"


@dataclass(frozen=True, kw_only=True)
class RunConfig(Config):
    """Everything that decides the result of a run; saved as ``config.json``.

    Attributes:
        variant: What it is called in tables, a key of ``VARIANTS`` or a name of its own.
        samples: Unlabelled images: none; generated, with "random" latents, with "classes" as a
            source classifier sees the labelled images, with "optimized" latents, or with
            "perfect" ones, drawn from the target's own part of the prior; or "real" images.
        regularizer: What is done with them.
        objectives: Of the map of the latents: the "gap", the "validation" loss, or both.
        order: Whether the map is found "first", with a classifier of the labels alone, or in steps
            that alternate with those of the classifier that it is for.
        gap: What is taken for the distance of samples and labelled images.
        map: What the latents are moved by.
        map_steps: Steps of the map where it is found first; otherwise there are ``num_steps``.
        map_samples: Samples in a step of the map, and as many real images.
        labels_per_class: Labelled images of each class of the target.
        validation_share: Share of them that is kept for the validation loss; with fewer than four
            a class, and at 0, the validation data is the training data itself.
        solver: Of cross-entropy and regulariser, as the call that builds a gradbalance solver.
        meta_solver: Of validation loss and gap, likewise.
        meta_gradient: Whether the virtual step is differentiated exactly.
        weight: Of the regulariser, λ.
        warmup: Share of the steps in which the regulariser's weight grows to λ: it must not rule
            before the labels have begun to.
        gap_weight: Of the gap, λ_gap.
        num_steps: Iterations.
        batch_size: Labelled images in a step; as many for the validation loss.
        num_samples: Unlabelled images in a step.
        lr: Learning rate at the start of the cosine schedule; also that of the virtual step.
        meta_lr: Learning rate of the map, by Adam; None for what suits its kind.
        weight_decay: Of SGD.
        data: Folder or zip of images, or None for the built-in ones.
        generator: "renderer"; "autoencoder", trained by ``train_source`` on what the renderer
            draws; "faces" for a published generator; or a file that ``train_source`` wrote.
        seed: Of the weights, the data and every draw.
        threads: CPU threads, or None for torch's default; sums depend on it in the last bits.
    """

    variant: str
    samples: Samples
    regularizer: Regularizer
    objectives: Objectives = "none"
    order: Order = "first"
    gap: GapName = "mmd"
    map: MapName = "affine"
    map_steps: int = 200
    map_samples: int = 48
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
    meta_lr: float | None = None
    weight_decay: float = 5e-4
    data: str | None = None
    generator: str = RENDERER
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        for option, choices in (
            ("samples", Samples),
            ("regularizer", Regularizer),
            ("objectives", Objectives),
            ("order", Order),
            ("gap", GapName),
            ("map", MapName),
            ("meta_gradient", MetaGradient),
        ):
            check_one_of(option, getattr(self, option), get_args(choices))
        self._check_what_needs_what()
        build_solver(self.solver)
        build_solver(self.meta_solver)
        numbers = ("labels_per_class", "num_steps", "batch_size", "num_samples", "lr", "meta_lr")
        check_positive(self, (*numbers, "map_steps", "weight", "gap_weight", "threads"))
        check_seed(self.seed)
        if self.map_samples < 2:
            raise ValueError(f"map_samples must be 2 or more, got {self.map_samples}")
        for option in ("validation_share", "warmup"):
            if not 0 <= getattr(self, option) < 1:
                raise ValueError(f"{option} must be in [0, 1), got {getattr(self, option)}")

    def _check_what_needs_what(self) -> None:
        if (self.samples == "none") != (self.regularizer == "none"):
            raise ValueError(
                "samples and a regularizer need each other, got "
                f"samples={self.samples!r} and regularizer={self.regularizer!r}"
            )
        if (self.samples == "optimized") != (self.objectives != "none"):
            raise ValueError(
                "optimized samples need objectives, and nothing else does, got "
                f"samples={self.samples!r} and objectives={self.objectives!r}"
            )
        if self.order == "alternating" and self.regularizer != "consistency":
            raise ValueError(
                "the alternating order is for consistency, which its virtual step takes, got "
                f"regularizer={self.regularizer!r}"
            )
        if self.samples == "perfect" and not self.knows_target:
            raise ValueError(
                "perfect samples need the renderer and its own target, got "
                f"generator={self.generator!r} and data={self.data!r}"
            )

    @property
    def name(self) -> str:
        """Name of the run and of its folder."""
        return f"{self.variant}-{self.labels_per_class}-{self.seed}"

    @property
    def knows_target(self) -> bool:
        """Whether it is known of every latent if its image is of the target."""
        return self.generator == RENDERER and self.data is None

    @property
    def map_lr(self) -> float:
        """The learning rate of the map."""
        return META_LR[self.map] if self.meta_lr is None else self.meta_lr

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

    def of_labels(self) -> "RunConfig":
        """Return the run on labels alone that a map is found with."""
        return replace(
            variant_config("labels"), **{key: getattr(self, key) for key in _LABELS_DEPEND_ON}
        )

    def of_map(self) -> "RunConfig":
        """Return what decides the map of a run; runs that have it in common share their map."""
        assert self.objectives != "none"
        assert self.order == "first"
        return replace(self, variant="map", regularizer="consistency", warmup=0.0, solver="Uniform")


_LABELS_DEPEND_ON = (
    *("labels_per_class", "num_steps", "batch_size", "lr", "weight_decay"),
    *("data", "seed", "threads"),
)

_OPTIMIZED = {"samples": "optimized", "regularizer": "consistency"}

VARIANTS: dict[str, dict[str, Any]] = {
    "labels": {"samples": "none", "regularizer": "none"},
    "consistency-random": {"samples": "random", "regularizer": "consistency"},
    "freematch-random": {"samples": "random", "regularizer": "pseudo-labels"},
    "p-ssl": {"samples": "classes", "regularizer": "pseudo-labels"},
    "consistency-gap": {**_OPTIMIZED, "objectives": "gap"},
    "freematch-gap": {**_OPTIMIZED, "regularizer": "pseudo-labels", "objectives": "gap"},
    "validation": {**_OPTIMIZED, "objectives": "validation"},
    "both": {**_OPTIMIZED, "objectives": "both"},
    "both-finite": {**_OPTIMIZED, "objectives": "both", "meta_gradient": "finite-difference"},
    "both-balanced": {**_OPTIMIZED, "objectives": "both", "meta_solver": "NashMTL"},
    "paper": {
        **_OPTIMIZED,
        "objectives": "both",
        "order": "alternating",
        "gap": "mean",
        "map": "mlp",
    },
    "consistency-perfect": {"samples": "perfect", "regularizer": "consistency"},
    "freematch-perfect": {"samples": "perfect", "regularizer": "pseudo-labels"},
    "consistency-real": {"samples": "real", "regularizer": "consistency"},
    "freematch-real": {"samples": "real", "regularizer": "pseudo-labels"},
}

# What is compared where nothing else is asked for.
SHOWN = ("labels", "consistency-random", "consistency-gap", "consistency-perfect", "freematch-real")


def variant_config(variant: str, **options: Any) -> RunConfig:
    """Return a variant's configuration with some options changed.

    Args:
        variant: A key of ``VARIANTS``.
        options: Fields of ``RunConfig``; those that are None keep the variant's or the default.

    Raises:
        ValueError: The variant or one of the options is not possible.
    """
    return RunConfig(variant=variant, **preset_options("variant", variant, VARIANTS, options))
