"""How inputs are made of images, and that every answer is about the input it stands beside."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from examples.common import transforms
from examples.common.data.image_set import ImageSet
from examples.common.trunk import build_model
from examples.mpssl import pretext
from examples.mpssl.evaluate import pretext_accuracy
from examples.mpssl.inputs import Recipe, label_batch, pretext_batch
from examples.mpssl.presets import preset_config
from examples.mpssl.pretext import TASKS, select_tasks
from examples.mpssl.train import Training

FOUR = ("rotation", "sharpness", "solarization", "saturation")


@pytest.fixture
def images(train_set: ImageSet) -> Tensor:
    return transforms.to_float(train_set.images[:10])


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_mixed_inputs_bear_every_transformation(images: Tensor) -> None:
    tasks = select_tasks(FOUR)
    batch = pretext_batch(images, tasks, Recipe(), seeded())
    classes = pretext.draw_classes(tasks, 10, seeded())
    assert torch.equal(batch.inputs, transforms.normalize(pretext.mix(images, tasks, classes)))
    for name, drawn in classes.items():
        assert torch.equal(batch.classes[name], drawn)
        assert torch.equal(torch.arange(10)[batch.rows[name]], torch.arange(10))


def test_the_reversed_order_applies_the_first_task_last(images: Tensor) -> None:
    tasks = select_tasks(["saturation", "solarization"])
    batch = pretext_batch(images, tasks, Recipe(order="reversed"), seeded())
    expected = images
    for name in ("solarization", "saturation"):
        levels = torch.tensor(TASKS[name].levels)[batch.classes[name]]
        expected = TASKS[name].apply(expected, levels)
    assert torch.equal(batch.inputs, transforms.normalize(expected))
    documented = pretext_batch(images, tasks, Recipe(), seeded())
    assert not torch.equal(batch.inputs, documented.inputs)


def test_all_rotations_make_four_inputs_of_an_image(images: Tensor) -> None:
    batch = pretext_batch(images, select_tasks(["rotation"]), Recipe(rotations="all"), seeded())
    assert len(batch.inputs) == 40
    for index, image in enumerate(transforms.normalize(images)):
        for turns in range(4):
            assert torch.equal(batch.inputs[4 * index + turns], torch.rot90(image, turns, (1, 2)))
            assert batch.classes["rotation"][4 * index + turns] == turns


def test_other_tasks_are_drawn_anew_for_each_rotation(images: Tensor) -> None:
    tasks = select_tasks(["rotation", "saturation"])
    batch = pretext_batch(images, tasks, Recipe(rotations="all"), seeded())
    assert any(len(set(drawn.tolist())) > 1 for drawn in batch.classes["saturation"].split(4))


def test_separate_inputs_bear_one_transformation_and_one_question(images: Tensor) -> None:
    tasks = select_tasks(FOUR)
    batch = pretext_batch(images, tasks, Recipe(mixing="separate"), seeded())
    everything = torch.arange(10)
    shares = [everything[batch.rows[task.name]] for task in tasks]
    assert torch.equal(torch.cat(shares), everything), "each image is dealt out once"
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for task, share in zip(tasks, shares, strict=True):
        levels = torch.tensor(task.levels)[batch.classes[task.name]]
        expected = transforms.normalize(task.apply(images[share], levels))
        assert torch.equal(batch.inputs[share], expected)


def test_labels_are_asked_about_as_they_are(images: Tensor) -> None:
    shape = torch.arange(10)
    batch = label_batch(images, {"shape": shape})
    assert torch.equal(batch.inputs, transforms.normalize(images))
    assert batch.classes["shape"] is shape


@pytest.mark.parametrize(
    ("options", "tasks", "message"),
    [
        ({"mixing": "both"}, FOUR, r"mixing must be one of \['mixed', 'separate'\], got 'both'"),
        ({"rotations": "two"}, FOUR, "rotations must be one of"),
        ({"order": "random"}, FOUR, "order must be one of"),
        ({"rotations": "all"}, ("sharpness",), "needs the task 'rotation'"),
        ({"rotations": "all", "mixing": "separate"}, FOUR, "and mixing='mixed'"),
    ],
)
def test_what_does_not_go_together_is_refused(
    options: dict[str, Any], tasks: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        preset_config("mp-ssl", tasks=tasks, **options)


def test_too_few_images_to_deal_out_are_refused(images: Tensor) -> None:
    with pytest.raises(ValueError, match="got 3 images for 4 tasks"):
        pretext_batch(images[:3], select_tasks(FOUR), Recipe(mixing="separate"), seeded())


@pytest.mark.parametrize(
    "options",
    [
        # Tasks with images of their own have nothing of a representation in common.
        {"mixing": "separate", "source": "shared"},
        {"rotations": "all"},
        {"order": "reversed"},
    ],
)
def test_every_recipe_trains_and_is_judged_in_its_own_manner(
    train_set: ImageSet, options: dict[str, Any]
) -> None:
    config = preset_config("mp-ssl", batch_size=8, **options)
    report = Training(config, train_set).step(torch.arange(8))
    assert np.isfinite(report.losses).all()
    model = build_model(dict.fromkeys(FOUR, 4), seed=0)
    seen: list[Tensor] = []
    model.trunk.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    scores = pretext_accuracy(model, config.pretext_tasks, config.recipe, train_set)
    assert list(scores) == [task.name for task in config.pretext_tasks]
    images = transforms.to_float(train_set.images)
    tasks = config.pretext_tasks[:1] if config.mixing == "separate" else config.pretext_tasks
    expected = pretext_batch(images, tasks, config.recipe, torch.Generator().manual_seed(0))
    assert torch.equal(seen[0], expected.inputs)


def test_separate_tasks_are_judged_on_every_image(train_set: ImageSet) -> None:
    task = select_tasks(["saturation"])
    model, separate = (
        build_model({"rotation": 4, "saturation": 4}, seed=0),
        Recipe(mixing="separate"),
    )
    alone = pretext_accuracy(model, task, separate, train_set)["saturation"]
    assert alone * len(train_set) == pytest.approx(round(alone * len(train_set)))
    both = pretext_accuracy(model, select_tasks(["rotation", "saturation"]), separate, train_set)
    assert all((score * len(train_set)) % 1 == pytest.approx(0) for score in both.values())


def test_a_supervised_run_learns_from_the_labels(train_set: ImageSet) -> None:
    training = Training(preset_config("supervised", batch_size=16), train_set)
    report = training.step(torch.arange(16))
    assert report.names == ("shape", "texture", "colour")
    batch = training.batch(torch.tensor([5, 7]))
    assert batch.classes["shape"].tolist() == train_set.labels["shape"][[5, 7]].tolist()
    assert {name: head[-1].out_features for name, head in training.model.heads.items()} == {
        name: len(classes) for name, classes in train_set.classes.items()
    }
