import io

import numpy as np
import torch
from rich.console import Console

from examples.common.data.image_set import ImageSet
from examples.common.data.unreadable import name_unreadable


def with_unreadable(*unreadable: str) -> ImageSet:
    return ImageSet(
        images=torch.zeros(1, 3, 32, 32, dtype=torch.uint8),
        labels={"class": np.zeros(1, np.int64)},
        classes={"class": ("a",)},
        unreadable=unreadable,
    )


def said_of(*image_sets: ImageSet) -> str:
    console = Console(file=io.StringIO(), width=40)
    name_unreadable(console, *image_sets)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_the_first_unreadable_files_are_named() -> None:
    assert said_of(with_unreadable(), with_unreadable()) == ""
    few = said_of(with_unreadable("a/[1].png: no image"), with_unreadable("b.png: empty"))
    assert few.splitlines() == [
        "2 unreadable images were left out:",
        "  a/[1].png: no image",
        "  b.png: empty",
    ]
    many = said_of(with_unreadable(*(f"{number}.png: empty" for number in range(7))))
    assert many.splitlines()[-2:] == ["  4.png: empty", "  and 2 more"]
