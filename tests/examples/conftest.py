from collections.abc import Iterator

import pytest
import torch

from examples.common.data.image_set import ImageSet
from examples.common.data.procedural import make_images


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def train_set() -> ImageSet:
    return make_images(96, seed=0)


@pytest.fixture(scope="session")
def test_set() -> ImageSet:
    return make_images(64, seed=1)
