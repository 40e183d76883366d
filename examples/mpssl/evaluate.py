"""Evaluates a trunk: probes on its frozen features, and the accuracy on its pretext tasks."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional

from examples.common import transforms
from examples.common.data.image_set import ImageSet
from examples.common.divergence import NOT_FINITE
from examples.common.trunk import PretextModel, Trunk
from examples.mpssl.inputs import NOT_ASKED, MakeBatch, pretext_batch
from examples.mpssl.pretext import PretextTask

Array = NDArray[np.float32]

NUM_NEIGHBOURS = 20
_BATCH = 500


def probe(trunk: Trunk, train_set: ImageSet, test_set: ImageSet) -> dict[str, dict[str, float]]:
    """Return the test accuracy of every probe, for each factor that the images are labelled with.

    ``block1`` and so on are linear probes after each block: ridge regression on standardized
    features, which is as good as logistic regression here and thirty times faster. ``knn`` is a
    vote of the 20 nearest training images by cosine similarity after the last block.

    Args:
        trunk: The trunk; it is not trained here.
        train_set: Images and labels to fit the probes on.
        test_set: Images and labels to evaluate the probes on.
    """
    train_features, test_features = features(trunk, train_set), features(trunk, test_set)
    scores: dict[str, dict[str, float]] = {}
    for factor, labels in train_set.labels.items():
        truth = test_set.labels[factor]
        scores[factor] = {}
        for block, (train, test) in enumerate(zip(train_features, test_features, strict=True), 1):
            linear = make_pipeline(StandardScaler(), RidgeClassifier(alpha=10.0))
            scores[factor][f"block{block}"] = float(linear.fit(train, labels).score(test, truth))
        num_neighbours = min(NUM_NEIGHBOURS, len(labels))
        nearest = KNeighborsClassifier(num_neighbours, metric="cosine", weights="distance")
        nearest.fit(train_features[-1], labels)
        scores[factor]["knn"] = float(nearest.score(test_features[-1], truth))
    return scores


def features(trunk: Trunk, image_set: ImageSet) -> list[Array]:
    """Return the features after every block, pooled to 2×2, as arrays [N, 4 × channels].

    Args:
        trunk: The trunk; it is in evaluation mode during the call.
        image_set: The images, which are not transformed.

    Raises:
        ValueError: A feature is not finite.
    """
    device = next(trunk.parameters()).device
    was_training = trunk.training
    trunk.eval()
    batches: list[list[Array]] = []
    with torch.no_grad():
        for inputs in clean_inputs(image_set, device):
            taps = trunk.taps(inputs)
            batches.append(
                [functional.adaptive_avg_pool2d(t, 2).flatten(1).cpu().numpy() for t in taps]
            )
    trunk.train(was_training)
    found = [np.concatenate(tap) for tap in zip(*batches, strict=True)]
    for block, tap in enumerate(found, 1):
        if not np.isfinite(tap).all():
            raise ValueError(f"the features of block {block} are {NOT_FINITE}")
    return found


def clean_inputs(image_set: ImageSet, device: torch.device) -> Iterator[Tensor]:
    """Yield the images without any transformation, in batches [N, 3, 32, 32] for a trunk.

    Args:
        image_set: The images.
        device: The device of the trunk.
    """
    for images in torch.split(image_set.images, _BATCH):
        yield transforms.normalize(transforms.to_float(images.to(device)))


def pretext_accuracy(
    model: PretextModel,
    tasks: Sequence[PretextTask],
    image_set: ImageSet,
    *,
    make_batch: MakeBatch = pretext_batch,
    seed: int = 0,
) -> dict[str, float]:
    """Return each pretext task's accuracy on inputs made from the given images.

    Args:
        model: The model; it is in evaluation mode during the call.
        tasks: The tasks; the model has a head for each of them.
        image_set: Held-out images.
        make_batch: Makes the inputs, as in training.
        seed: Seed for drawing the classes; use the same seed for every model.
    """
    if not tasks:
        return {}
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    correct: dict[str, list[Tensor]] = {task.name: [] for task in tasks}
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for images in torch.split(image_set.images, _BATCH):
            batch = make_batch(transforms.to_float(images.to(device)), tasks, generator)
            logits = model(batch.inputs)
            for name, right in batch.classes.items():
                hits = logits[name].argmax(1).cpu() == right
                correct[name].append(hits[right != NOT_ASKED])
    model.train(was_training)
    return {name: float(torch.cat(hits).double().mean()) for name, hits in correct.items()}
