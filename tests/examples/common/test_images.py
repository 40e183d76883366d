"""Image folders and zips: what is read, what is left out and named, and nothing is written."""

import io
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from examples.common.data.images import load_images

COLOURS = {"cat": (200, 10, 10), "dog": (10, 200, 10), "eel": (10, 10, 200)}


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (32, 32)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "png")
    return file.getvalue()


def files(num_train: int = 6, num_test: int = 2) -> dict[str, bytes]:
    return {
        f"{split}/{name}/{index:02}.png": picture((colour[0], colour[1], colour[2] + index))
        for split, num in (("train", num_train), ("test", num_test))
        for name, colour in COLOURS.items()
        for index in range(num)
    }


def as_folder(path: Path, members: dict[str, bytes]) -> Path:
    for name, data in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def as_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_a_folder_and_a_zip_of_it_give_the_same(tmp_path: Path) -> None:
    from_folder = load_images(as_folder(tmp_path / "folder", files()))
    from_zip = load_images(as_zip(tmp_path / "images.zip", files()))
    for one, other, num in zip(from_folder, from_zip, (18, 6), strict=True):
        assert one.images.shape == (num, 3, 32, 32)
        assert torch.equal(one.images, other.images)
        assert one.classes == {"class": ("cat", "dog", "eel")}
        assert np.array_equal(one.labels["class"], other.labels["class"])
        for image, label in zip(one.images, one.labels["class"], strict=True):
            assert int(image[:, 0, 0].argmax()) == label, "labels belong to their images"


def test_a_folder_around_it_all_does_not_matter(tmp_path: Path) -> None:
    wrapped = {f"birds/{name}": data for name, data in files().items()}
    wrapped["__MACOSX/birds/train/cat/._00.png"] = b"not an image"
    train_set, test_set = load_images(as_zip(tmp_path / "images.zip", wrapped))
    assert (len(train_set), len(test_set)) == (18, 6)
    assert not train_set.unreadable


def test_without_train_and_test_a_seeded_tenth_of_each_class_is_held_out(tmp_path: Path) -> None:
    members = {n.removeprefix("train/"): d for n, d in files(20).items() if n[:5] == "train"}
    path = as_zip(tmp_path / "images.zip", members)
    train_set, test_set = load_images(path, seed=1)
    assert np.bincount(train_set.labels["class"]).tolist() == [18, 18, 18]
    assert np.bincount(test_set.labels["class"]).tolist() == [2, 2, 2]
    train_pixels = {image.numpy().tobytes() for image in train_set.images}
    assert not train_pixels & {image.numpy().tobytes() for image in test_set.images}
    assert torch.equal(test_set.images, load_images(path, seed=1)[1].images)
    assert not torch.equal(test_set.images, load_images(path, seed=2)[1].images)


def test_limits_are_balanced_over_the_classes(tmp_path: Path) -> None:
    members = files()
    for index in range(2, 6):
        del members[f"train/dog/{index:02}.png"]  # Two dogs are left.
    path = as_zip(tmp_path / "images.zip", members)
    train_set, test_set = load_images(path, max_train=12, max_test=3)
    assert np.bincount(train_set.labels["class"]).tolist() == [5, 2, 5]
    assert np.bincount(test_set.labels["class"]).tolist() == [1, 1, 1]
    assert len(load_images(path, max_train=8)[0]) == 8
    assert len(load_images(path, max_train=1)[0]) == 1


def test_unreadable_files_are_counted_and_named_and_others_take_their_place(tmp_path: Path) -> None:
    members = files()
    members["train/cat/00.png"] = b"not an image"
    members["train/cat/01.png"] = members["train/cat/01.png"][:60]
    members["train/dog/00.png"] = b""
    members["train/notes.txt"] = b"no image, and not meant to be one"
    for path in (as_zip(tmp_path / "images.zip", members), as_folder(tmp_path / "f", members)):
        train_set, test_set = load_images(path)
        assert len(train_set) == 15
        assert len(test_set) == 6
        named = sorted(line.split(":")[0] for line in train_set.unreadable)
        assert named == ["train/cat/00.png", "train/cat/01.png", "train/dog/00.png"]
        limited, _ = load_images(path, max_train=12)
        assert np.bincount(limited.labels["class"]).tolist() == [4, 4, 4]


def test_a_damaged_or_too_large_zip_member_is_named(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "images.zip", files())
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("train/cat/03.png").header_offset
    data[start + 30 + len("train/cat/03.png") + 40] ^= 0xFF  # The checksum no longer fits.
    path.write_bytes(data)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/dog/bomb.png", bytes(65 * 2**20))
    train_set, _ = load_images(path)
    assert len(train_set) == 17
    assert sorted(line.split(":")[0] for line in train_set.unreadable) == [
        "train/cat/03.png",
        "train/dog/bomb.png",
    ]
    assert any("larger than" in line for line in train_set.unreadable), "it was not unpacked"


def test_an_image_too_large_to_decode_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = files()
    members["train/cat/00.png"] = picture((1, 2, 3), (50, 50))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 40)
    train_set, _ = load_images(as_zip(tmp_path / "images.zip", members))
    assert [line.split(":")[0] for line in train_set.unreadable] == ["train/cat/00.png"]


def test_a_zip_writes_nowhere(tmp_path: Path) -> None:
    inside = tmp_path / "deep" / "er"
    inside.mkdir(parents=True)
    members = files()
    members["../evil.png"] = picture((0, 0, 0))
    members["../../train/cat/evil.png"] = picture((9, 9, 9))
    members[f"{tmp_path}/evil.png"] = picture((0, 0, 0))
    path = as_zip(inside / "images.zip", members)
    before = sorted(tmp_path.rglob("*"))
    train_set, test_set = load_images(path)
    assert sorted(tmp_path.rglob("*")) == before
    assert len(train_set) >= 18
    assert len(test_set) == 6


def test_other_sizes_and_modes_become_32_by_32_in_colour(tmp_path: Path) -> None:
    wide = Image.new("RGB", (128, 64), (0, 0, 255))
    wide.paste((255, 0, 0), (32, 0, 96, 64))  # The middle square is red.
    grey, cut = Image.new("L", (20, 50), 77), io.BytesIO()
    wide.save(cut, "png")
    small = io.BytesIO()
    grey.save(small, "png")
    members = files()
    members["train/cat/wide.png"], members["train/cat/grey.png"] = cut.getvalue(), small.getvalue()
    train_set, _ = load_images(as_zip(tmp_path / "images.zip", members))
    middles = {tuple(image[:, 16, 16].tolist()) for image in train_set.images}
    assert {(255, 0, 0), (77, 77, 77)} <= middles
    red = next(image for image in train_set.images if tuple(image[:, 16, 16]) == (255, 0, 0))
    assert (red[0] > 200).all()


RAMP = np.arange(32 * 32).reshape(32, 32) / (32 * 32 - 1)  # from black to white
LEVELS = np.rint(255 * RAMP).astype(np.int64)


def encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def only_cat(path: Path, name: str, data: bytes) -> np.ndarray[Any, np.dtype[np.int64]]:
    members = {**files(1, 1), f"train/cat/{name}": data}
    del members["train/cat/00.png"]
    train_set, _ = load_images(as_zip(path, members))
    assert not train_set.unreadable
    cat = train_set.images[train_set.labels["class"] == 0][0].numpy().astype(np.int64)
    return np.moveaxis(cat, 0, -1)


def tiff_of_12_bits(values: np.ndarray[Any, np.dtype[Any]]) -> bytes:
    """A greyscale TIFF file of 12 bits a pixel, which Pillow reads and does not write."""
    even, odd = values.reshape(-1, 2).T.astype(np.uint16)
    packed = np.stack([even >> 4, (even & 15) << 4 | odd >> 8, odd & 255], 1).astype(np.uint8)
    height, width = values.shape
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 277: 1, 278: height}
    tags |= {273: 8 + 2 + 12 * 9 + 4, 279: packed.size}
    entries = [struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags)]
    header = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    return header + b"".join(entries) + struct.pack("<I", 0) + packed.tobytes()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("16.png", encoded(Image.fromarray(np.rint(65535 * RAMP).astype(np.uint16)), "png")),
        ("16.tif", encoded(Image.fromarray(np.rint(65535 * RAMP).astype(np.uint16)), "tiff")),
        ("big.tif", encoded(Image.fromarray(np.rint(65535 * RAMP).astype(">u2")), "tiff")),
        ("12.tif", tiff_of_12_bits(np.rint(4095 * RAMP))),
        ("float.tif", encoded(Image.fromarray(RAMP.astype(np.float32)), "tiff")),
        ("16.pgm", b"P5 32 32 65535\n" + np.rint(65535 * RAMP).astype(">u2").tobytes()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_more_than_8_bits_are_scaled_and_not_cut_off(
    tmp_path: Path, name: str, data: bytes
) -> None:
    found = only_cat(tmp_path / "images.zip", name, data)
    assert np.abs(found - LEVELS[:, :, None]).max() <= 1


def test_16_bits_in_colour_and_turned(tmp_path: Path) -> None:
    samples = np.rint(65535 * np.stack([RAMP, RAMP[::-1], RAMP.T], axis=2)).astype(">u2")
    colour = b"P6 32 32 65535\n" + samples.tobytes()
    found = only_cat(tmp_path / "colour.zip", "16.ppm", colour)
    expected = np.stack([LEVELS, LEVELS[::-1], LEVELS.T], axis=2)
    assert np.abs(found - expected).max() <= 1
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    deep = Image.fromarray(np.rint(65535 * np.rot90(RAMP)).astype(np.uint16))
    deep.save(file, "png", exif=exif)
    found = only_cat(tmp_path / "turned.zip", "turned.png", file.getvalue())
    assert np.abs(found - LEVELS[:, :, None]).max() <= 1


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (200 * RAMP.astype(np.float32), r"floating-point pixels must be in \[0, 1\]"),
        (RAMP.astype(np.float32) - 0.5, r"floating-point pixels must be in \[0, 1\]"),
        (np.where(RAMP < 0.5, np.nan, RAMP).astype(np.float32), "floating-point pixels"),
        (np.rint(2**31 * RAMP - 1).astype(np.int32), "save it with 8 or 16 bits"),
    ],
)
def test_pixels_of_unknown_range_are_named_and_not_cut_off(
    tmp_path: Path, pixels: np.ndarray[Any, np.dtype[Any]], reason: str
) -> None:
    members = {**files(), "train/cat/deep.tif": encoded(Image.fromarray(pixels), "tiff")}
    train_set, _ = load_images(as_zip(tmp_path / "images.zip", members))
    assert len(train_set) == 18
    (line,) = train_set.unreadable
    assert re.match(f"train/cat/deep.tif: .*{reason}", line)


def test_a_camera_turned_on_its_side_is_set_upright(tmp_path: Path) -> None:
    photo = Image.new("RGB", (32, 32), (0, 0, 0))
    photo.paste((255, 255, 255), (0, 0, 32, 8))  # Bright above.
    sideways, file = photo.rotate(90), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # To be shown turned clockwise.
    sideways.save(file, "png", exif=exif)
    members = {**files(1, 1), "train/cat/00.png": file.getvalue()}
    train_set, _ = load_images(as_zip(tmp_path / "images.zip", members))
    cat = train_set.images[train_set.labels["class"] == 0][0]
    assert (cat[:, :6] == 255).all()
    assert (cat[:, 10:] == 0).all()


def test_what_holds_no_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("not a zip")
    (tmp_path / "empty").mkdir()
    broken = dict.fromkeys(files(), b"broken")
    with pytest.raises(ValueError, match="folder or a zip"):
        load_images(tmp_path / "text.zip")
    with pytest.raises(ValueError, match="folder or a zip"):
        load_images(tmp_path / "absent")
    with pytest.raises(ValueError, match="no readable train image"):
        load_images(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"no readable train image, unreadable: train/"):
        load_images(as_zip(tmp_path / "broken.zip", broken))
