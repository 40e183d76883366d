"""Two digits on one image: predict the left digit, the right digit, and the number they form.

The construction is that of MultiMNIST (Sabour et al. 2017, Sener and Koltun 2018), with the
handwritten digits of scikit-learn: two images of 8 × 8 pixels in the upper left and the lower right
corner of one of 12 × 12; where they overlap, the brighter pixel counts. The number is
10·left + right, with squared error as its loss. In raw units this loss is about 800 at first, while
the two cross-entropies are 2.3.
"""

import torch
from torch import Tensor, nn

from benchmarks.tasks.supervised import Classes, Labelled, Number, Supervised

NUM_STEPS = 300
NUM_PAIRS = {"train": 20_000, "validation": 2_000, "test": 4_000}
WIDTH = 48


def suite(*, raw: bool) -> Supervised:
    """The suite, with the number's loss in raw units or standardised."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32) / 16
    digits = torch.tensor(found.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    parts = dict(zip(NUM_PAIRS, torch.tensor_split(order, (1100, 1350)), strict=True))
    sets = {name: _pairs(images[part], digits[part], name) for name, part in parts.items()}
    kinds: dict[str, Classes | Number] = {
        "left": Classes(10),
        "right": Classes(10),
        "number": Number.of(sets["train"].labels["number"], raw=raw),
    }
    return Supervised(
        kinds,
        sets["train"],
        {"validation": sets["validation"], "test": sets["test"]},
        trunk=_trunk,
        width=WIDTH,
        num_steps=NUM_STEPS,
    )


def _pairs(images: Tensor, digits: Tensor, part: str) -> Labelled:
    """Pairs of digit images from one part; the parts have no digit image in common."""
    number = NUM_PAIRS[part]
    generator = torch.Generator().manual_seed(number)
    left, right = torch.randint(len(images), (2, number), generator=generator)
    drawn = torch.zeros(number, 1, 12, 12)
    drawn[:, 0, :8, :8] = images[left]
    drawn[:, 0, 4:, 4:] = torch.maximum(drawn[:, 0, 4:, 4:], images[right])
    named = {"left": digits[left], "right": digits[right]}
    return Labelled(drawn, {**named, "number": (10.0 * digits[left] + digits[right]).float()})


def _trunk() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(16 * 9, WIDTH), nn.ReLU()),
    )
