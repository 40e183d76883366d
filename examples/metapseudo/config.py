"""The options of a run."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from examples.common.checks import check_positive, check_seed
from examples.common.choices import check_one_of
from examples.common.run_folder import Config
from examples.common.solvers import build_solver
from examples.metapseudo.gaps import GapName
from examples.metapseudo.mapping import META_LR, MapName

Samples = Literal["none", "random", "classes", "optimized", "perfect", "real"]
Regularizer = Literal["none", "pseudo-labels", "consistency"]
MetaGradient = Literal["exact", "finite-difference"]
Objectives = Literal["none", "gap", "validation", "both"]
Order = Literal["first", "alternating"]

FEWEST_FOR_VALIDATION = 4  # Labelled images of a class; with fewer, none are kept apart.

RENDERER = "renderer"

# The options that decide a classifier of labels alone.
_LABELS_DEPEND_ON = (
    *("labels_per_class", "num_steps", "batch_size", "lr", "weight_decay"),
    *("data", "seed", "threads"),
)


@dataclass(frozen=True, kw_only=True)
class RunConfig(Config):
    """Everything that decides the result of a run; saved as ``config.json``.

    Attributes:
        variant: Name of the run in tables: a key of ``VARIANTS``, or any other name.
        samples: Where unlabelled images come from: nowhere ("none"), the target itself ("real"), or
            a generator. Its latents are "random", "optimized", or "perfect", which is drawn from
            the target's own part of the prior. With "classes" they are random, and the generator's
            classes are drawn as a source classifier sees the labelled images.
        regularizer: The loss on the unlabelled images.
        objectives: What the map of the latents minimises: the "gap", the "validation" loss, or
            "both"; "none" leaves the latents as they are drawn.
        order: When the latents are optimised: "first", before the classifier is trained and with
            another classifier, trained on labels alone; or "alternating", a step of the map and a
            step of the classifier in turn, as in the paper.
        gap: The distance between samples and labelled images, a key of ``GAPS``.
        map: The kind of map that moves the latents.
        map_steps: Steps of the map in the order "first"; when alternating there are ``num_steps``.
        map_samples: Samples in a step of the map, and as many real images.
        labels_per_class: Labelled images of each class of the target.
        validation_share: Share of the labelled images that is kept for the validation loss. With
            fewer than four a class, and at 0, the validation data is the training data itself.
        solver: How cross-entropy and regulariser are balanced, as the call that builds a
            gradbalance solver.
        meta_solver: How validation loss and gap are balanced, as another such call.
        meta_gradient: How the virtual step is differentiated, a key of ``META_GRADIENTS``.
        weight: Weight λ of the regulariser.
        warmup: Share of the steps in which the regulariser's weight grows to λ: it must not
            dominate before the classifier has begun to learn from the labels.
        gap_weight: Weight λ_gap of the gap.
        num_steps: Steps of the classifier.
        batch_size: Labelled images in a step, and as many for the validation loss.
        num_samples: Unlabelled images in a step.
        lr: Learning rate at the start of the cosine schedule. In the order "first" it is also the
            learning rate of the virtual step, which otherwise follows the schedule.
        meta_lr: Learning rate of Adam for the map; None for the default of its kind.
        weight_decay: Weight decay of the classifier's SGD.
        data: Folder or zip of images, or None for the built-in ones.
        generator: "renderer"; "autoencoder", which ``train_source`` trains on the renderer's
            images; "faces", a published generator; or a file that ``train_source`` wrote.
        seed: Seed of the initial weights, of the data, and of everything drawn in the run.
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
        """Whether it is known, for every latent, if its image is like the target."""
        return self.generator == RENDERER and self.data is None

    @property
    def map_lr(self) -> float:
        """The learning rate of the map."""
        return META_LR[self.map] if self.meta_lr is None else self.meta_lr

    def weight_at(self, step: int) -> float:
        """Return the weight of the regulariser at a step.

        Args:
            step: Number of the step, from 0.
        """
        num_growing = round(self.warmup * self.num_steps)
        return self.weight * min(1.0, (step + 1) / max(1, num_growing))

    @property
    def num_validation(self) -> int:
        """Number of labelled images of a class that are kept for the validation loss."""
        uses = self.objectives in ("validation", "both")
        if not uses or self.labels_per_class < FEWEST_FOR_VALIDATION:
            return 0
        if self.validation_share == 0:
            return 0
        wanted = round(self.validation_share * self.labels_per_class)
        return min(max(1, wanted), self.labels_per_class - 1)

    def of_labels(self) -> "RunConfig":
        """Return the run on labels alone whose classifier the map is found with."""
        depends_on = {key: getattr(self, key) for key in _LABELS_DEPEND_ON}
        return RunConfig(variant="labels", samples="none", regularizer="none", **depends_on)

    def of_map(self) -> "RunConfig":
        """Return the options that decide the map; runs that agree in them share one map."""
        assert self.objectives != "none"
        assert self.order == "first"
        return replace(self, variant="map", regularizer="consistency", warmup=0.0, solver="Uniform")
