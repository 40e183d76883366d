"""The probes see what the features hold, and nothing of the test labels."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from examples.common.data.image_set import ImageSet
from examples.common.trunk import PretextModel, SmallTrunk, build_model
from examples.mpssl import evaluate, pretext
from examples.mpssl.inputs import NOT_ASKED, Batch, pretext_batch


def labelled(num: int, seed: int) -> ImageSet:
    """Images whose brightness is one label and where the other is a coin."""
    rng = np.random.default_rng(seed)
    bright, coin = rng.integers(2, size=(2, num))
    pixels = rng.integers(0, 100, (num, 3, 32, 32)) + 100 * bright[:, None, None, None]
    return ImageSet(
        images=torch.from_numpy(pixels.astype(np.uint8)),
        labels={"bright": bright, "coin": coin},
        classes={"bright": ("no", "yes"), "coin": ("heads", "tails")},
    )


def test_probes_find_what_is_there_and_only_that() -> None:
    trunk = build_model({"rotation": 4}, seed=0).trunk
    scores = evaluate.probe(trunk, labelled(300, 0), labelled(200, 1))
    assert list(scores) == ["bright", "coin"]
    assert list(scores["bright"]) == ["block1", "block2", "block3", "block4", "knn"]
    assert min(scores["bright"].values()) > 0.95
    assert all(0.3 < score < 0.7 for score in scores["coin"].values())


def test_features_are_those_of_the_frozen_trunk(train_set: ImageSet) -> None:
    trunk = build_model({"rotation": 4}, seed=0).trunk
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    features = evaluate.features(trunk, train_set)
    assert [tap.shape for tap in features] == [(96, 4 * width) for width in (32, 48, 64, 96)]
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())
    assert trunk.training, "left in the mode in which it was found"
    trunk.eval()
    with torch.no_grad():
        first = trunk.taps((train_set.images[:1] / 255 - 0.5) / 0.25)[0]
    assert features[0][0] == pytest.approx(first.reshape(32, 2, 8, 2, 8).mean((2, 4)).flatten())


def test_each_block_is_probed_on_its_own_features() -> None:
    class Blind(SmallTrunk):
        """Sees nothing after its second block."""

        def taps(self, images: Tensor) -> list[Tensor]:
            features = super().taps(images)
            return [*features[:2], *(0 * feature for feature in features[2:])]

    torch.manual_seed(0)
    scores = evaluate.probe(Blind(), labelled(300, 0), labelled(200, 1))["bright"]
    assert min(scores["block1"], scores["block2"]) > 0.95
    assert max(scores["block3"], scores["block4"]) < 0.7


def test_neighbours_are_compared_by_cosine() -> None:
    class Scaled(SmallTrunk):
        """Features whose direction holds the label and whose length is misleading."""

        def taps(self, images: Tensor) -> list[Tensor]:
            bright = (images.mean(dim=(1, 2, 3)) > 0).float()
            direction = torch.stack([torch.ones_like(bright), 0.1 * bright], dim=1)
            length = 100 ** torch.rand(len(images), generator=torch.Generator().manual_seed(0))
            return [(length[:, None] * direction)[:, :, None, None].expand(-1, -1, 4, 4)] * 4

    assert evaluate.probe(Scaled(), labelled(60, 0), labelled(40, 1))["bright"]["knn"] == 1


def test_pretext_accuracy_counts_what_the_heads_get_right(test_set: ImageSet) -> None:
    tasks = pretext.select_tasks(["rotation", "saturation"])

    class Grey(nn.Module):
        """Says grey exactly where the image is grey, and 90 degrees always."""

        def __init__(self) -> None:
            super().__init__()
            self.anything = nn.Parameter(torch.zeros(1))

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            grey = (images - images.mean(dim=1, keepdim=True)).abs().amax(dim=(1, 2, 3)) < 1e-5
            rotation = torch.tensor([0.0, 1.0, 0.0, 0.0]).expand(len(images), 4)
            return {
                "rotation": rotation,
                "saturation": torch.where(grey, 0, 2)[:, None].eq(torch.arange(4)).float(),
            }

    model: PretextModel = Grey()  # type: ignore[assignment]
    scores = evaluate.pretext_accuracy(model, tasks, test_set, seed=0)
    drawn = pretext.draw_classes(tasks, len(test_set), torch.Generator().manual_seed(0))
    assert scores["rotation"] == pytest.approx((drawn["rotation"] == 1).double().mean())
    expected = ((drawn["saturation"] == 0) | (drawn["saturation"] == 2)).double().mean()
    assert scores["saturation"] == pytest.approx(expected)
    assert evaluate.pretext_accuracy(model, tasks, test_set, seed=1) != scores


def test_pretext_accuracy_is_over_the_inputs_that_a_task_is_asked_about(test_set: ImageSet) -> None:
    model = build_model({"rotation": 4}, seed=0)
    asked = torch.arange(len(test_set)) % 2 == 0

    def half(*arguments: Any) -> Batch:
        batch = pretext_batch(*arguments)
        classes = torch.where(asked, batch.classes["rotation"], NOT_ASKED)
        return Batch(inputs=batch.inputs, classes={"rotation": classes})

    tasks = pretext.select_tasks(["rotation"])
    found = evaluate.pretext_accuracy(model, tasks, test_set, make_batch=half)["rotation"]
    batch = pretext_batch(test_set.images / 255, tasks, torch.Generator().manual_seed(0))
    with torch.no_grad():
        told = model.eval()(batch.inputs)["rotation"].argmax(1)
    assert found == (told == batch.classes["rotation"])[asked].double().mean()
