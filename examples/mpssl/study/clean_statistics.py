"""Gives a trunk that was trained on distorted inputs the batch-norm statistics of clean ones."""

import copy

import torch

from examples.common.data.image_set import ImageSet
from examples.common.trunk import Trunk
from examples.mpssl.evaluate import clean_inputs


def with_statistics_of(trunk: Trunk, image_set: ImageSet) -> Trunk:
    """Return a copy of a trunk whose batch norms have the mean and variance of these images.

    A trunk that was trained only on distorted inputs has the statistics of distorted inputs.

    Args:
        trunk: The trunk.
        image_set: The images, which are not transformed.
    """
    copied = copy.deepcopy(trunk)
    for module in copied.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # takes the mean over all batches
    copied.train()
    device = next(copied.parameters()).device
    with torch.no_grad():
        for inputs in clean_inputs(image_set, device):
            copied(inputs)
    return copied.train(trunk.training)
