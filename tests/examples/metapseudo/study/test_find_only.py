"""Runs of which only the map is found."""

from collections.abc import Callable
from pathlib import Path

import pytest

from examples.metapseudo.config import RunConfig
from examples.metapseudo.run import shared
from examples.metapseudo.study.find_only import find_only

Small = Callable[..., RunConfig]


@pytest.mark.usefixtures("few_images")
def test_a_map_that_was_found_alone_is_not_found_again(
    small: Small, tmp_path: Path, trained: list[str]
) -> None:
    config = small("consistency-gap", num_steps=1, map_steps=1)
    first = find_only(config, tmp_path)
    assert first["evaluations"] == []
    assert len(first["latents"]) == 2
    shared.labelled_classifier.cache_clear()
    shared.found_map.cache_clear()
    assert find_only(config, tmp_path) == first
    assert trained == ["labels-4-0", "map-4-0"]
    find_only(small("consistency-gap", num_steps=1, map_steps=2), tmp_path)
    assert len(trained) == 4, "another number of steps is another run"
