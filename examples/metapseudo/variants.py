"""The named variants of a run, which are compared with each other."""

from typing import Any

from examples.common.choices import preset_options
from examples.metapseudo.config import RunConfig

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

# The variants that are compared by default.
SHOWN = ("labels", "consistency-random", "consistency-gap", "consistency-perfect", "freematch-real")


def variant_config(variant: str, **options: Any) -> RunConfig:
    """Return a variant's configuration with some options changed.

    Args:
        variant: A key of ``VARIANTS``.
        options: Fields of ``RunConfig``; None keeps the variant's value, or else the default.

    Raises:
        ValueError: There is no such variant, or an option has a value that is not possible.
    """
    return RunConfig(variant=variant, **preset_options("variant", variant, VARIANTS, options))
