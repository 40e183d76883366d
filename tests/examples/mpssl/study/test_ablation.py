"""The ablation: one change at a time in how inputs are made, for training and for evaluation."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from examples.common import transforms
from examples.common.data.image_set import ImageSet
from examples.common.trunk import build_model
from examples.mpssl import pretext
from examples.mpssl.evaluate import pretext_accuracy
from examples.mpssl.inputs import NOT_ASKED, pretext_batch
from examples.mpssl.presets import PRESETS
from examples.mpssl.pretext import TASKS, select_tasks
from examples.mpssl.study import ablation
from examples.mpssl.study.ablation import StudyConfig, batches_of
from examples.mpssl.train import Training

FOUR = ("rotation", "sharpness", "solarization", "saturation")


def of_study(**options: Any) -> StudyConfig:
    return StudyConfig(**{"name": "run", **PRESETS["mp-ssl"], **options})


@pytest.fixture
def images(train_set: ImageSet) -> Tensor:
    return transforms.to_float(train_set.images[:10])


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_the_reversed_order_applies_the_first_task_last(images: Tensor) -> None:
    tasks = select_tasks(["saturation", "solarization"])
    batch = ablation.backwards(images, tasks, seeded())
    expected = images
    for name in ("solarization", "saturation"):
        levels = torch.tensor(TASKS[name].levels)[batch.classes[name]]
        expected = TASKS[name].apply(expected, levels)
    assert torch.equal(batch.inputs, transforms.normalize(expected))
    documented = pretext_batch(images, tasks, seeded())
    assert not torch.equal(batch.inputs, documented.inputs)


def test_all_rotations_make_four_inputs_of_an_image(images: Tensor) -> None:
    batch = ablation.all_rotations(images, select_tasks(["rotation"]), seeded())
    assert len(batch.inputs) == 40
    for index, image in enumerate(transforms.normalize(images)):
        for turns in range(4):
            assert torch.equal(batch.inputs[4 * index + turns], torch.rot90(image, turns, (1, 2)))
            assert batch.classes["rotation"][4 * index + turns] == turns


def test_other_tasks_are_drawn_anew_for_each_rotation(images: Tensor) -> None:
    batch = ablation.all_rotations(images, select_tasks(["rotation", "saturation"]), seeded())
    assert any(len(set(drawn.tolist())) > 1 for drawn in batch.classes["saturation"].split(4))


def test_separate_inputs_bear_one_transformation_and_one_question(images: Tensor) -> None:
    tasks = select_tasks(FOUR)
    batch = ablation.separate(images, tasks, seeded())
    asked = torch.stack([batch.classes[task.name] != NOT_ASKED for task in tasks])
    assert (asked.sum(dim=0) == 1).all(), "each image is dealt out once"
    assert asked.sum(dim=1).max() - asked.sum(dim=1).min() <= 1
    for task, share in zip(tasks, asked, strict=True):
        levels = torch.tensor(task.levels)[batch.classes[task.name][share]]
        expected = transforms.normalize(task.apply(images[share], levels))
        assert torch.equal(batch.inputs[share], expected)


def test_the_loss_of_separate_inputs_is_over_a_tasks_own(train_set: ImageSet) -> None:
    training = Training(of_study(mixing="separate"), train_set, ablation.separate)
    batch = training.batch(torch.arange(10))
    logits = training.model(batch.inputs)
    for name, loss in training.losses(batch).items():
        own = batch.classes[name] != NOT_ASKED
        expected = functional.cross_entropy(logits[name][own], batch.classes[name][own])
        torch.testing.assert_close(loss, expected)


def test_too_few_images_to_deal_out_are_refused(images: Tensor) -> None:
    with pytest.raises(ValueError, match="got 3 images for 4 tasks"):
        ablation.separate(images[:3], select_tasks(FOUR), seeded())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixing": "both"}, r"mixing must be one of \['mixed', 'separate'\], got 'both'"),
        ({"rotations": "two"}, "rotations must be one of"),
        ({"order": "random"}, "order must be one of"),
        ({"tasks": ("sharpness",), "rotations": "all"}, "needs the task 'rotation'"),
        ({"rotations": "all", "mixing": "separate"}, "got mixing and rotations"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        of_study(**options)


@pytest.mark.parametrize(
    "options",
    [
        # Tasks with images of their own have nothing of a representation in common.
        {"mixing": "separate", "source": "shared"},
        {"rotations": "all"},
        {"order": "reversed"},
        {},
    ],
)
def test_every_run_is_trained_and_judged_in_its_own_manner(
    train_set: ImageSet, options: dict[str, Any]
) -> None:
    config = of_study(batch_size=8, **options)
    report = Training(config, train_set, batches_of(config)).step(torch.arange(8))
    assert np.isfinite(report.losses).all()
    model = build_model(dict.fromkeys(FOUR, 4), seed=0)
    seen: list[Tensor] = []
    model.trunk.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    judged = batches_of(config, judged=True)
    scores = pretext_accuracy(model, config.pretext_tasks, train_set, make_batch=judged)
    assert list(scores) == [task.name for task in config.pretext_tasks]
    images = transforms.to_float(train_set.images)
    expected = judged(images, config.pretext_tasks, torch.Generator().manual_seed(0))
    assert torch.equal(seen[0], expected.inputs)


def test_ways_to_make_inputs_differ() -> None:
    options: list[dict[str, Any]] = [
        {},
        {"mixing": "separate"},
        {"rotations": "all"},
        {"order": "reversed"},
    ]
    assert len({batches_of(of_study(**changed)) for changed in options}) == 4
    assert batches_of(of_study()) is pretext_batch
    separate = of_study(mixing="separate")
    assert batches_of(separate) is ablation.separate
    assert batches_of(separate, judged=True) is ablation.every_image_separate


def test_separate_tasks_are_judged_on_every_image(images: Tensor) -> None:
    tasks = select_tasks(FOUR)
    batch = ablation.every_image_separate(images, tasks, seeded())
    assert len(batch.inputs) == 40
    drawn = seeded()
    for index, task in enumerate(tasks):
        own = slice(10 * index, 10 * index + 10)
        classes = pretext.draw_classes([task], 10, drawn)
        assert torch.equal(batch.classes[task.name][own], classes[task.name])
        assert (batch.classes[task.name] != NOT_ASKED).sum() == 10
        mixed = pretext.mix(images, [task], classes)
        assert torch.equal(batch.inputs[own], transforms.normalize(mixed))
