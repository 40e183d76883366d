"""What runs are possible, and what they are called."""

import json
from typing import Any, get_args

import pytest

from examples.metapseudo.config import (
    MetaGradient,
    Objectives,
    Order,
    Regularizer,
    RunConfig,
    Samples,
)
from examples.metapseudo.gaps import GAPS, GapName
from examples.metapseudo.mapping import META_LR, MapName
from examples.metapseudo.meta_gradient import META_GRADIENTS
from examples.metapseudo.variants import SHOWN, VARIANTS, variant_config


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
    assert len({tuple(sorted(options.items())) for options in VARIANTS.values()}) == len(VARIANTS)
    for option, choices in (
        ("samples", Samples),
        ("regularizer", Regularizer),
        ("objectives", Objectives),
        ("order", Order),
        ("meta_gradient", MetaGradient),
    ):
        used = {getattr(variant_config(variant), option) for variant in VARIANTS}
        assert used == set(get_args(choices))
    assert set(META_GRADIENTS) == set(get_args(MetaGradient))
    assert set(GAPS) == set(get_args(GapName))
    assert set(META_LR) == set(get_args(MapName))
    assert set(SHOWN) < set(VARIANTS)


def test_the_paper_variant_is_what_the_paper_states() -> None:
    config = variant_config("paper")
    assert (config.gap, config.map, config.order) == ("mean", "mlp", "alternating")
    assert (config.objectives, config.meta_gradient) == ("both", "exact")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": "fake"}, "samples must be one of .*'optimized'.*, got 'fake'"),
        ({"regularizer": "l2"}, "regularizer must be one of .*'consistency'.*, got 'l2'"),
        ({"objectives": "all"}, "objectives must be one of .*'both'.*, got 'all'"),
        ({"order": "last"}, "order must be one of .*'alternating'.*, got 'last'"),
        ({"gap": "median"}, "gap must be one of .*'mmd'.*, got 'median'"),
        ({"map": "linear"}, "map must be one of .*'affine'.*, got 'linear'"),
        ({"map_samples": 1}, "map_samples must be 2 or more, got 1"),
        ({"map_steps": 0}, "map_steps must be positive, got 0"),
        ({"meta_gradient": "first"}, "meta_gradient must be one of .*'exact'.*, got 'first'"),
        (
            {"samples": "none", "objectives": "none"},
            "got samples='none' and regularizer='consistency'",
        ),
        (
            {"regularizer": "none"},
            "got samples='optimized' and regularizer='none'",
        ),
        ({"objectives": "none"}, "got samples='optimized' and objectives='none'"),
        ({"samples": "random"}, "got samples='random' and objectives='both'"),
        (
            {"regularizer": "pseudo-labels", "order": "alternating"},
            "got regularizer='pseudo-labels'",
        ),
        ({"solver": "Sum"}, "no solver 'Sum'"),
        ({"meta_solver": "Sum"}, "no solver 'Sum'"),
        *(
            ({option: bad}, f"{option} must be positive.*, got {bad}")
            for option, bad in (
                *(
                    ("labels_per_class", 0),
                    ("num_steps", 0),
                    ("batch_size", -1),
                    ("num_samples", 0),
                ),
                *(("lr", 0.0), ("meta_lr", -0.1), ("weight", 0.0), ("gap_weight", 0.0)),
                *(("lr", float("nan")), ("weight", float("inf")), ("threads", 0)),
            )
        ),
        ({"validation_share": 1.0}, r"validation_share must be in \[0, 1\), got 1.0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"warmup": 1.0}, r"warmup must be in \[0, 1\), got 1.0"),
        ({"validation_share": -0.1}, r"validation_share must be in \[0, 1\), got -0.1"),
    ],
)
def test_what_is_not_possible_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        variant_config("both", **options)


@pytest.mark.parametrize("options", [{"generator": "autoencoder"}, {"data": "images.zip"}])
def test_perfect_samples_need_the_renderer_and_its_target(options: dict[str, Any]) -> None:
    assert variant_config("consistency-perfect").knows_target
    assert not variant_config("consistency-random", **options).knows_target
    with pytest.raises(ValueError, match="perfect samples need the renderer and its own target"):
        variant_config("consistency-perfect", **options)


def test_the_learning_rate_of_the_map_suits_it_unless_it_is_given() -> None:
    assert variant_config("both", map="mlp").map_lr == META_LR["mlp"]
    assert variant_config("both").map_lr == META_LR["affine"]
    assert variant_config("both", meta_lr=0.5).map_lr == 0.5


def test_runs_that_differ_in_the_classifier_only_share_their_map() -> None:
    one, other = variant_config("consistency-gap"), variant_config("freematch-gap", solver="MGDA")
    assert one.of_map() == other.of_map()
    for option in ({"seed": 1}, {"gap": "mean"}, {"map": "mlp"}, {"labels_per_class": 1}):
        assert variant_config("consistency-gap", **option).of_map() != one.of_map()
    assert variant_config("both", seed=2, lr=0.1).of_labels() == variant_config(
        "labels", seed=2, lr=0.1
    )


def test_a_variant_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"variant must be one of .*'both'.*, got 'best'"):
        variant_config("best")


def test_the_weight_of_the_regulariser_grows_to_its_value() -> None:
    config = variant_config("consistency-random", num_steps=40, warmup=0.25, weight=2.0)
    assert config.weight_at(0) == pytest.approx(0.2)
    assert config.weight_at(4) == pytest.approx(1.0)
    assert config.weight_at(9) == config.weight_at(39) == 2.0
    assert variant_config("consistency-random", warmup=0.0).weight_at(0) == 1.0
