"""The classifiers on whole blocks learn what is there, and leave the trunk as it is."""

import torch

from examples.common.trunk import build_model
from examples.mpssl.study.block_classifiers import block_classifier_accuracy
from tests.examples.mpssl.test_evaluate import labelled


def test_classifiers_find_what_is_there_and_only_that() -> None:
    trunk = build_model({"rotation": 4}, seed=0).trunk
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    state = torch.get_rng_state()
    scores = block_classifier_accuracy(
        trunk, labelled(200, 0), labelled(200, 1), epochs=4, batch_size=20
    )
    assert list(scores) == ["bright", "coin"]
    assert list(scores["bright"]) == ["block1", "block2", "block3", "block4"]
    assert min(scores["bright"].values()) > 0.95
    assert all(0.3 < score < 0.7 for score in scores["coin"].values())
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())
    assert trunk.training, "left in the mode in which it was found"
    assert torch.equal(torch.get_rng_state(), state), "the global generator is left alone"
