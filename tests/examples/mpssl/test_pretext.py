"""Levels are drawn independently, and transformations are applied in the one documented order."""

import pytest
import torch

from examples.common import transforms
from examples.common.data.procedural import make_images
from examples.mpssl import pretext
from examples.mpssl.pretext import TASKS, select_tasks


def test_the_levels_are_those_of_the_paper_and_four_each() -> None:
    levels = {name: task.levels for name, task in TASKS.items()}
    assert levels["rotation"] == (0, 1, 2, 3)
    assert levels["sharpness"] == (0, 1, 2.5, 5)
    assert levels["solarization"][1:] == (0.75, 0.5, 0.25)
    assert levels["saturation"] == (0, 0.5, 1, 2)
    for name, task in TASKS.items():
        assert len(set(task.levels)) == len(task.labels) == 4, name


def test_levels_are_uniform_and_independent_across_tasks() -> None:
    tasks, num = select_tasks(list(TASKS)), 8000
    drawn = pretext.draw_classes(tasks, num, torch.Generator().manual_seed(0))
    names = list(drawn)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            joint = torch.bincount(4 * drawn[first] + drawn[second], minlength=16)
            # Each of the 16 pairs is expected 500 times, with a deviation of 22.
            assert (joint - num / 16).abs().max() < 110, (first, second)


def test_the_draws_come_from_the_given_generator() -> None:
    tasks = select_tasks(["rotation", "sharpness"])
    torch.manual_seed(0)
    first = pretext.draw_classes(tasks, 50, torch.Generator().manual_seed(3))
    torch.manual_seed(1)
    again = pretext.draw_classes(tasks, 50, torch.Generator().manual_seed(3))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_mixing_applies_the_documented_order_whatever_the_order_of_the_tasks() -> None:
    images = transforms.to_float(make_images(64, seed=0).images)
    tasks = select_tasks(list(TASKS))
    classes = pretext.draw_classes(tasks, 64, torch.Generator().manual_seed(0))
    by_hand = images
    for name in (
        "rotation",
        "brightness",
        "contrast",
        "saturation",
        "sharpness",
        "solarization",
        "posterization",
    ):
        by_hand = TASKS[name].apply(by_hand, torch.tensor(TASKS[name].levels)[classes[name]])
    assert torch.equal(pretext.mix(images, tasks[::-1], classes), by_hand)
    backwards = images
    for task in tasks[::-1]:
        backwards = task.apply(backwards, torch.tensor(task.levels)[classes[task.name]])
    assert not torch.allclose(backwards, by_hand, atol=0.1), "they do not commute"


def test_a_flip_after_the_rotation_would_swap_90_and_270() -> None:
    images = transforms.to_float(make_images(4, seed=0).images)
    left, right = (torch.full((4,), turns) for turns in (1, 3))
    flipped_after = transforms.rotate(images, left).flip(3)
    assert torch.equal(flipped_after, transforms.rotate(images.flip(3), right))


@pytest.mark.parametrize("names", [[], ["rotation", "rotation"], ["rotation", "colour"]])
def test_tasks_that_do_not_exist_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="pretext task"):
        select_tasks(names)
