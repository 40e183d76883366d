"""What runs are possible, and what they are called."""

import json
from typing import Any, get_args

import pytest

from examples.metapseudo.meta_gradient import META_GRADIENTS
from examples.metapseudo.variants import (
    VARIANTS,
    MetaGradient,
    Objectives,
    Regularizer,
    RunConfig,
    Samples,
    variant_config,
)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_possible(variant: str) -> None:
    config = variant_config(variant, labels_per_class=2, seed=3, solver=None)
    assert config.name == f"{variant}-2-3"
    assert config.variant == variant
    assert config.solver == "Uniform", "None keeps the default"
    for option, value in VARIANTS[variant].items():
        assert getattr(config, option) == value
    assert RunConfig(**json.loads(json.dumps(config.as_dict()))) == config


def test_the_variants_differ_and_show_every_choice() -> None:
    assert len({tuple(sorted(options.items())) for options in VARIANTS.values()}) == 8
    for option, choices in (
        ("samples", Samples),
        ("regularizer", Regularizer),
        ("objectives", Objectives),
    ):
        used = {getattr(variant_config(variant), option) for variant in VARIANTS}
        assert used == set(get_args(choices))
    assert set(META_GRADIENTS) == set(get_args(MetaGradient))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": "fake"}, "samples must be one of .*'mapped'.*, got 'fake'"),
        ({"regularizer": "l2"}, "regularizer must be one of .*'consistency'.*, got 'l2'"),
        ({"objectives": "all"}, "objectives must be one of .*'both'.*, got 'all'"),
        ({"meta_gradient": "first"}, "meta_gradient must be one of .*'exact'.*, got 'first'"),
        (
            {"samples": "none", "objectives": "none"},
            "got samples='none' and regularizer='consistency'",
        ),
        (
            {"regularizer": "none"},
            "got samples='mapped' and regularizer='none'",
        ),
        ({"objectives": "none"}, "got samples='mapped' and objectives='none'"),
        ({"samples": "random"}, "got samples='random' and objectives='both'"),
        ({"regularizer": "pseudo-labels"}, "got regularizer='pseudo-labels'"),
        ({"solver": "Sum"}, "no solver 'Sum'"),
        ({"meta_solver": "Sum"}, "no solver 'Sum'"),
        *(
            ({option: bad}, f"{option} must be positive, got {bad}")
            for option, bad in (
                *(
                    ("labels_per_class", 0),
                    ("num_steps", 0),
                    ("batch_size", -1),
                    ("num_samples", 0),
                ),
                *(("lr", 0.0), ("meta_lr", -0.1), ("weight", 0.0), ("gap_weight", 0.0)),
                ("threads", 0),
            )
        ),
        ({"validation_share": 1.0}, r"validation_share must be in \[0, 1\), got 1.0"),
        ({"warmup": 1.0}, r"warmup must be in \[0, 1\), got 1.0"),
        ({"validation_share": -0.1}, r"validation_share must be in \[0, 1\), got -0.1"),
    ],
)
def test_what_is_not_possible_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        variant_config("meta", **options)


def test_a_variant_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"variant must be one of .*'meta'.*, got 'best'"):
        variant_config("best")


def test_the_weight_of_the_regulariser_grows_to_its_value() -> None:
    config = variant_config("consistency", num_steps=40, warmup=0.25, weight=2.0)
    assert config.weight_at(0) == pytest.approx(0.2)
    assert config.weight_at(4) == pytest.approx(1.0)
    assert config.weight_at(9) == config.weight_at(39) == 2.0
    assert variant_config("consistency", warmup=0.0).weight_at(0) == 1.0
