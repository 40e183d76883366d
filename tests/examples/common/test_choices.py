"""Options with a few values, and presets of several."""

import pytest

from examples.common.choices import preset_options

PRESETS = {"fast": {"lr": 0.1, "epochs": 3}, "slow": {"lr": 0.01}}


def test_a_preset_is_changed_by_what_is_given() -> None:
    changes = {"lr": None, "epochs": 5, "seed": 0}
    assert preset_options("pace", "fast", PRESETS, changes) == {"lr": 0.1, "epochs": 5, "seed": 0}
    assert PRESETS["fast"] == {"lr": 0.1, "epochs": 3}


def test_an_unknown_preset_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"pace must be one of \['fast', 'slow'\], got 'brisk'"):
        preset_options("pace", "brisk", PRESETS, {})
