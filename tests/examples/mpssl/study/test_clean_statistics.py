"""Batch norms of clean images, in a copy of the trunk."""

import torch

from examples.common import transforms
from examples.common.data.image_set import ImageSet
from examples.common.trunk import build_model
from examples.mpssl.study.clean_statistics import with_statistics_of


def test_a_copy_has_mean_and_variance_of_the_images(train_set: ImageSet) -> None:
    trunk = build_model({"rotation": 4}, seed=0).trunk
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    copied = with_statistics_of(trunk, train_set)
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())
    convolution, pooling, norm, _ = copied.blocks[0]
    with torch.no_grad():
        inputs = transforms.normalize(transforms.to_float(train_set.images))
        seen = pooling(convolution(inputs)).transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean, seen.mean(dim=1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(norm.running_var, seen.var(dim=1), rtol=1e-3, atol=1e-4)
