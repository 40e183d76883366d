"""Evaluates a trunk as RotNet did: a three-layer classifier on all features of each block.

The linear probes of ``evaluate`` get features pooled to 2×2, and take seconds on a CPU. These
classifiers get every position, are trained on shifted and flipped images, and are meant for a GPU.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.common import transforms
from examples.common.data.image_set import ImageSet
from examples.common.trunk import Trunk
from examples.mpssl.evaluate import clean_inputs

Classifiers = dict[str, list[nn.Module]]  # for each factor, one classifier per block

_LR = 0.1
_WEIGHT_DECAY = 5e-4


def block_classifier_accuracy(
    trunk: Trunk,
    train_set: ImageSet,
    test_set: ImageSet,
    *,
    epochs: int,
    batch_size: int = 256,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Return, for each known factor, the test accuracy of a classifier on every block.

    The classifiers have two hidden layers with batch norm and 20 units per class. SGD with Nesterov
    momentum trains all of them on the same batches, and the trunk is frozen. This follows Gidaris
    et al. 2018, arXiv 1803.07728, section 3.1, and the authors' code, except for the learning-rate
    schedule, which is a cosine here.

    Args:
        trunk: The trunk, on its device; it is in evaluation mode during the call.
        train_set: Images and labels for training.
        test_set: Images and labels for evaluation.
        epochs: Passes over the training images.
        batch_size: Number of images per step.
        seed: Seed of the classifiers' weights, the order of the images, and crops and flips.
    """
    device = next(trunk.parameters()).device
    was_training = trunk.training
    trunk.eval()
    generator = torch.Generator().manual_seed(seed)
    images = train_set.images.to(device)
    truth = {name: torch.as_tensor(of, device=device) for name, of in train_set.labels.items()}
    classifiers = _classifiers(_features(trunk, transforms.to_float(images[:1])), train_set, seed)
    together = nn.ModuleList(one for blocks in classifiers.values() for one in blocks).to(device)
    optimizer = torch.optim.SGD(
        together.parameters(), _LR, momentum=0.9, weight_decay=_WEIGHT_DECAY, nesterov=True
    )
    batch_size = min(batch_size, len(train_set))
    steps_per_epoch = len(train_set) // batch_size
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps_per_epoch)
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for chosen in torch.split(order, batch_size)[:steps_per_epoch]:
            chosen = chosen.to(device)
            shown = transforms.crop_and_flip(transforms.to_float(images[chosen]), generator)
            features = _features(trunk, transforms.normalize(shown))
            optimizer.zero_grad()
            with _autocast(device):
                losses = [
                    functional.cross_entropy(logits, truth[factor][chosen])
                    for factor, blocks in _logits(classifiers, features).items()
                    for logits in blocks
                ]
            torch.autograd.backward(losses)
            optimizer.step()
            schedule.step()
    together.eval()
    accuracy = _accuracy(trunk, classifiers, test_set)
    trunk.train(was_training)
    return accuracy


def _classifiers(features: list[Tensor], image_set: ImageSet, seed: int) -> Classifiers:
    """For each factor, one classifier per block."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {
            factor: [_classifier(block[0].numel(), len(classes)) for block in features]
            for factor, classes in image_set.classes.items()
        }


def _classifier(num_features: int, num_classes: int) -> nn.Module:
    hidden = 20 * num_classes
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(num_features, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, num_classes),
    )


def _accuracy(
    trunk: Trunk, classifiers: Classifiers, image_set: ImageSet
) -> dict[str, dict[str, float]]:
    device = next(trunk.parameters()).device
    told: dict[str, list[Tensor]] = {factor: [] for factor in classifiers}
    with torch.no_grad(), _autocast(device):
        for inputs in clean_inputs(image_set, device):
            for factor, blocks in _logits(classifiers, _features(trunk, inputs)).items():
                told[factor].append(torch.stack([logits.argmax(1) for logits in blocks]).cpu())
    return {
        factor: {
            f"block{block}": float((of_block.numpy() == image_set.labels[factor]).mean())
            for block, of_block in enumerate(torch.cat(batches, dim=1), 1)
        }
        for factor, batches in told.items()
    }


def _features(trunk: Trunk, inputs: Tensor) -> list[Tensor]:
    with torch.no_grad(), _autocast(inputs.device):
        return trunk.taps(inputs)


def _logits(classifiers: Classifiers, features: list[Tensor]) -> dict[str, list[Tensor]]:
    return {
        factor: [classifier(block) for classifier, block in zip(of, features, strict=True)]
        for factor, of in classifiers.items()
    }


def _autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu")
