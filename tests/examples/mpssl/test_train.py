"""Training: what a step does."""

import pytest
import torch

import gradbalance as gb
from examples.common.data.image_set import ImageSet
from examples.common.trunk import NetworkInNetwork, SmallTrunk, build_model
from examples.mpssl import pretext
from examples.mpssl.presets import preset_config
from examples.mpssl.train import Training

SMALL = {"epochs": 3, "batch_size": 32, "max_train": 96}


def test_the_trunk_is_small_and_tapped_after_every_block() -> None:
    trunk = SmallTrunk()
    assert sum(parameter.numel() for parameter in trunk.parameters()) <= 100_000
    images = torch.randn(2, 3, 32, 32)
    shapes = [tuple(tap.shape) for tap in trunk.taps(images)]
    assert shapes == [(2, 32, 16, 16), (2, 48, 8, 8), (2, 64, 4, 4), (2, 96, 4, 4)]
    trunk.eval()
    assert torch.equal(trunk(images), trunk.taps(images)[-1])


def test_the_trunk_of_rotnet_is_a_choice(train_set: ImageSet) -> None:
    config = preset_config("mp-ssl", trunk="nin", batch_size=4, max_train=8)
    training = Training(config, train_set)
    assert isinstance(training.model.trunk, NetworkInNetwork)
    shapes = [tuple(tap.shape) for tap in training.model.trunk.taps(torch.randn(2, 3, 32, 32))]
    assert shapes == [(2, 96, 16, 16), *[(2, 192, 8, 8)] * 3]
    assert set(training.step(torch.arange(4)).names) == set(config.tasks)
    with pytest.raises(ValueError, match=r"trunk must be one of \['small', 'nin'\], got 'alexnet'"):
        preset_config("mp-ssl", trunk="alexnet")


def test_every_run_of_a_seed_starts_from_the_same_trunk() -> None:
    state = torch.get_rng_state()
    one = build_model({"rotation": 4}, seed=1)
    two = build_model({"sharpness": 4, "rotation": 4}, seed=1)
    other = build_model({"rotation": 4}, seed=2)
    assert torch.equal(torch.get_rng_state(), state), "the global generator is left alone"
    for name, weight in one.trunk.state_dict().items():
        assert torch.equal(weight, two.trunk.state_dict()[name])
    assert not torch.equal(one.trunk.blocks[0][0].weight, other.trunk.blocks[0][0].weight)


def test_a_uniform_step_is_the_sum_of_the_cross_entropies(train_set: ImageSet) -> None:
    config = preset_config("ie-rot", **SMALL)
    ours, by_hand = Training(config, train_set), Training(config, train_set)
    ours.step(torch.arange(32))

    from examples.common import transforms

    images = transforms.to_float(train_set.images[:32])
    inputs = transforms.crop_and_flip(images, by_hand.generator)
    classes = pretext.draw_classes(by_hand.tasks, 32, by_hand.generator)
    inputs = (pretext.mix(inputs, by_hand.tasks, classes) - 0.5) / 0.25
    logits = by_hand.model(inputs)
    by_hand.optimizer.zero_grad()
    losses = [torch.nn.functional.cross_entropy(logits[name], classes[name]) for name in classes]
    torch.stack(losses).sum().backward()
    by_hand.optimizer.step()
    for one, other in zip(ours.model.parameters(), by_hand.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_step_goes_through_the_balancer(
    train_set: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(preset_config("mp-ssl", **SMALL), train_set)
    report = training.step(torch.arange(32))
    assert report.names == tuple(training.model.heads)
    assert report.solver == "Bounded(MGDA)"
    assert report.cosines is not None
    assert report.gram is not None
    length = report.weights @ report.gram @ report.weights
    assert length == pytest.approx(report.gram.sum()), (
        "scaled to be comparable with uniform weights"
    )
    monkeypatch.setattr(training.balancer, "backward", lambda losses: gb.Report)
    before = [parameter.clone() for parameter in training.model.parameters()]
    training.step(torch.arange(32))
    assert all(map(torch.equal, before, training.model.parameters())), "nothing else gives .grad"


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("bfloat16", torch.bfloat16), ("float32", torch.float32), ("auto", torch.float32)],
)
def test_mixed_precision_runs_the_trunk_in_bfloat16(
    train_set: ImageSet, precision: str, expected: torch.dtype
) -> None:
    training = Training(preset_config("mp-ssl", precision=precision, **SMALL), train_set)
    seen = []
    convolution = training.model.trunk.blocks[1]
    convolution.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    report = training.step(torch.arange(32))
    assert seen == [expected]
    assert {parameter.dtype for parameter in training.model.parameters()} == {torch.float32}
    assert (report.losses > 0).all()
