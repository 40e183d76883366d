"""The published generator keeps to the interface, and loading it runs no code."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from examples.metapseudo.generators.published import FaceGenerator


@pytest.fixture(scope="module")
def faces() -> FaceGenerator:
    pytest.importorskip("gan_face_generate", reason="gan-face-generate is not installed")
    return FaceGenerator.load()


@pytest.fixture(scope="module")
def latents(faces: FaceGenerator) -> Tensor:
    return faces.draw(4, torch.Generator().manual_seed(0))[0]


def test_images_have_the_shape_and_the_range_of_the_interface(
    faces: FaceGenerator, latents: Tensor
) -> None:
    images = faces(latents)
    assert latents.shape == (4, 100)
    assert faces.draw(4, torch.Generator())[1] is None
    assert images.shape == (4, 3, 32, 32)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < 0.2
    assert 0.8 < images.max() <= 1


def test_an_image_is_the_mean_of_four_pixels_of_the_published_one(
    faces: FaceGenerator, latents: Tensor
) -> None:
    published = faces.network(latents[:, :, None, None])
    blocks = (published / 2 + 0.5).unflatten(3, (32, 2)).unflatten(2, (32, 2))
    torch.testing.assert_close(faces(latents), blocks.mean((3, 5)))


def test_two_latents_give_two_images(faces: FaceGenerator, latents: Tensor) -> None:
    first, second = faces(latents[:2])
    assert (first - second).abs().mean() > 0.02


def test_an_image_does_not_depend_on_the_rest_of_its_batch(
    faces: FaceGenerator, latents: Tensor
) -> None:
    torch.testing.assert_close(faces(latents[1:2]), faces(latents)[1:2], rtol=0, atol=1e-5)


def test_gradients_reach_the_latents_and_not_the_frozen_weights(
    faces: FaceGenerator, latents: Tensor
) -> None:
    latents = latents.clone().requires_grad_()
    faces(latents).square().mean().backward()  # type: ignore[no-untyped-call]
    assert latents.grad is not None
    assert latents.grad.isfinite().all()
    assert (latents.grad.abs().sum(1) > 0).all()
    assert all(not weight.requires_grad and weight.grad is None for weight in faces.parameters())
    assert not any(module.training for module in faces.modules())


def test_a_missing_package_is_named_with_its_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gan_face_generate.models", None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps gan-face-generate"):
        FaceGenerator.load()


@pytest.mark.parametrize("damage", ["empty", "text", "cut"])
def test_a_damaged_file_is_refused(faces: FaceGenerator, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "weights.tar"
    torch.save({"netG_state_dict": faces.network.state_dict()}, path)
    content = path.read_bytes()
    damaged = {"empty": b"", "text": b"no weights", "cut": content[: len(content) // 2]}
    FaceGenerator.load(path)
    path.write_bytes(damaged[damage])
    with pytest.raises(ValueError, match=r"weights\.tar does not hold the weights of faces"):
        FaceGenerator.load(path)


@pytest.mark.parametrize("difference", ["list", "key", "prefix", "missing", "shape"])
def test_other_weights_are_refused(faces: FaceGenerator, tmp_path: Path, difference: str) -> None:
    weights = dict(faces.network.state_dict())
    state: Any = {"netG_state_dict": weights}
    if difference == "list":
        state = [weights]
    elif difference == "key":
        state = weights
    elif difference == "prefix":
        state["netG_state_dict"] = {f"module.{name}": value for name, value in weights.items()}
    elif difference == "missing":
        del weights["main.4.running_var"]
    else:
        weights["main.3.weight"] = weights["main.3.weight"][:, :1].clone()
    torch.save(state, tmp_path / "weights.tar")
    with pytest.raises(ValueError, match=r"weights\.tar does not hold the weights of faces"):
        FaceGenerator.load(tmp_path / "weights.tar")


def test_weights_with_code_in_them_are_refused(faces: FaceGenerator, tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "has run",)

    torch.save({"netG_state_dict": Code()}, tmp_path / "weights.tar")
    with pytest.raises(ValueError, match="does not hold the weights"):
        FaceGenerator.load(tmp_path / "weights.tar")
    assert not (tmp_path / "has run").exists()
