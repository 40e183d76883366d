"""How inputs are made from images, and that every class belongs to the input at its index."""

import torch

from examples.common import transforms
from examples.common.data.image_set import ImageSet
from examples.mpssl import pretext
from examples.mpssl.inputs import label_batch, pretext_batch
from examples.mpssl.presets import preset_config
from examples.mpssl.pretext import select_tasks
from examples.mpssl.train import Training


def test_mixed_inputs_bear_every_transformation(train_set: ImageSet) -> None:
    images = transforms.to_float(train_set.images[:10])
    tasks = select_tasks(["rotation", "sharpness", "solarization", "saturation"])
    batch = pretext_batch(images, tasks, torch.Generator().manual_seed(3))
    classes = pretext.draw_classes(tasks, 10, torch.Generator().manual_seed(3))
    assert torch.equal(batch.inputs, transforms.normalize(pretext.mix(images, tasks, classes)))
    assert list(batch.classes) == list(classes)
    for name, drawn in classes.items():
        assert torch.equal(batch.classes[name], drawn)


def test_labels_are_asked_about_as_they_are(train_set: ImageSet) -> None:
    images = transforms.to_float(train_set.images[:10])
    shape = torch.arange(10)
    batch = label_batch(images, {"shape": shape})
    assert torch.equal(batch.inputs, transforms.normalize(images))
    assert batch.classes["shape"] is shape


def test_a_supervised_run_learns_from_the_labels(train_set: ImageSet) -> None:
    training = Training(preset_config("supervised", batch_size=16), train_set)
    report = training.step(torch.arange(16))
    assert report.names == ("shape", "texture", "colour")
    batch = training.batch(torch.tensor([5, 7]))
    assert batch.classes["shape"].tolist() == train_set.labels["shape"][[5, 7]].tolist()
    assert {name: head[-1].out_features for name, head in training.model.heads.items()} == {
        name: len(classes) for name, classes in train_set.classes.items()
    }
