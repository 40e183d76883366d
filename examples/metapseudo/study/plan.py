"""The runs of each study."""

from collections.abc import Iterable
from dataclasses import replace
from typing import get_args

from examples.metapseudo.config import RunConfig
from examples.metapseudo.gaps import GapName
from examples.metapseudo.mapping import MapName
from examples.metapseudo.variants import variant_config

ACCURACY = (
    "labels",
    "consistency-random",
    "freematch-random",
    "consistency-gap",
    "freematch-gap",
    "consistency-perfect",
    "freematch-perfect",
    "consistency-real",
    "freematch-real",
)
MANY_SEEDS_AT, FEW_SEEDS_AT = (1, 4), (16, 64)  # Labels per class.

VALIDATION = (
    "labels",
    "consistency-random",
    "consistency-gap",
    "validation",
    "both",
    "both-finite",
    "both-balanced",
    "paper",
)

BLURRED = "-autoencoder"
GENERATORS = ("consistency-random", "freematch-random", "consistency-gap", "freematch-gap")

# Files that ``train_source`` writes; see the README.
PHOTOGRAPHS_BY = {
    "": "runs/photographs-adversarial.pt",
    BLURRED: "runs/photographs-autoencoder.pt",
}
PHOTOGRAPHS = {
    "": ("labels", *GENERATORS, "p-ssl", "consistency-real", "freematch-real"),
    BLURRED: ("consistency-random", "consistency-gap"),
}
PHOTOGRAPHS_AT = (4, 64)


def accuracy(num_seeds: int, num_few: int) -> Iterable[RunConfig]:
    """Yield the runs that measure samples, between labels alone and real images.

    Args:
        num_seeds: Number of seeds with few labels per class, where seeds differ much.
        num_few: Number of seeds with many labels per class.
    """
    for number, budgets in ((num_seeds, MANY_SEEDS_AT), (num_few, FEW_SEEDS_AT)):
        for labels in budgets:
            for seed in range(number):
                for variant in ACCURACY:
                    yield _config(variant, labels, seed)


def latents(num_seeds: int) -> Iterable[RunConfig]:
    """Yield runs for every gap with every map; of these runs only the map is found.

    Args:
        num_seeds: Number of seeds.
    """
    for seed in range(num_seeds):
        for gap in get_args(GapName):
            for name in get_args(MapName):
                config = _config("consistency-gap", 4, seed)
                yield replace(config, variant=f"{gap}-{name}", gap=gap, map=name)


def validation(num_seeds: int) -> Iterable[RunConfig]:
    """Yield runs for all objectives of the latents, both meta-gradients, and the paper's own form.

    Args:
        num_seeds: Number of seeds.
    """
    for seed in range(num_seeds):
        for variant in VALIDATION:
            yield _config(variant, 4, seed)


def generators(num_seeds: int) -> Iterable[RunConfig]:
    """Yield runs with the renderer's samples, and with those of the autoencoder trained on them.

    Args:
        num_seeds: Number of seeds.
    """
    for seed in range(num_seeds):
        yield _config("labels", 4, seed)
        for variant in GENERATORS:
            config = _config(variant, 4, seed)
            yield config
            yield replace(config, variant=variant + BLURRED, generator="autoencoder")


def photographs(num_seeds: int, data: str = "cifar10.zip") -> Iterable[RunConfig]:
    """Yield runs on images of files, with an adversarial generator and with the blurred one.

    Args:
        num_seeds: Number of seeds.
        data: Folder or zip of images; both generators are of the first half of its classes.
    """
    for labels in PHOTOGRAPHS_AT:
        for seed in range(num_seeds):
            for suffix, names in PHOTOGRAPHS.items():
                for variant in names:
                    yield replace(
                        _config(variant, labels, seed, data=data, generator=PHOTOGRAPHS_BY[suffix]),
                        variant=variant + suffix,
                    )


def _config(variant: str, labels: int, seed: int, **options: str) -> RunConfig:
    return variant_config(variant, labels_per_class=labels, seed=seed, threads=1, **options)
