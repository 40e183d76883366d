"""Labelled images from a folder, or from a zip file, which is read in memory and never unpacked.

The layout is ``<class>/<image>``, either below ``train/`` and ``test/`` or without such a split
(then a random tenth of every class is held out, according to the seed). One more folder around all
of them does not matter.
"""

import io
import random
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from examples.common.data.depth import to_8_bits
from examples.common.data.image_set import IMAGE_SIZE, ImageSet

SPLITS = ("train", "test")
HELD_OUT = 0.1
MAX_FILE_BYTES = 64 * 2**20

_Read = Callable[[str], bytes]
_File = tuple[str, str]  # (name in the archive or folder, class)


def load_images(
    path: Path, *, max_train: int | None = None, max_test: int | None = None, seed: int = 0
) -> tuple[ImageSet, ImageSet]:
    """Load the training and the test images at 32×32, in colour with 8 bits per channel.

    16-bit pixels, and floating-point pixels in [0, 1], are scaled to 8 bits. A file that cannot be
    read is skipped and listed in ``ImageSet.unreadable``.

    Args:
        path: A folder or a zip file.
        max_train: Maximum number of training images, balanced over the classes.
        max_test: The same for the test images.
        seed: Seed for choosing the images if there are more, and the held-out images.

    Raises:
        ValueError: The path is neither a folder nor a zip, or a split has no readable image.
    """
    if path.is_dir():
        names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
        return _load(names, lambda name: _read_file(path / name), (max_train, max_test), seed, path)
    if not zipfile.is_zipfile(path):
        raise ValueError(f"data must be a folder or a zip file of images, got {str(path)!r}")
    with zipfile.ZipFile(path) as archive:
        # A member is only read, never extracted, so a path outside the folder does no harm.
        return _load(
            archive.namelist(),
            lambda name: _read_member(archive, name),
            (max_train, max_test),
            seed,
            path,
        )


def _load(
    names: Sequence[str], read: _Read, limits: tuple[int | None, int | None], seed: int, path: Path
) -> tuple[ImageSet, ImageSet]:
    splits = _split(names, seed)
    classes = sorted({label for files in splits.values() for _, label in files})
    sets = []
    for split, limit in zip(SPLITS, limits, strict=True):
        image_set = _decode_all(splits[split], classes, read, limit)
        if not len(image_set):
            named = f", unreadable: {image_set.unreadable[0]}" if image_set.unreadable else ""
            raise ValueError(
                f"{str(path)!r} has no readable {split} image{named}; expected "
                "<class>/<image> files, below train/ and test/ or on their own"
            )
        sets.append(image_set)
    return sets[0], sets[1]


def _split(names: Sequence[str], seed: int) -> dict[str, list[_File]]:
    """Return the files of each split, shuffled."""
    suffixes = set(Image.registered_extensions())
    files = []
    for name in sorted(names):
        parts = PurePosixPath(name).parts
        hidden = any(part.startswith((".", "__MACOSX")) and part != ".." for part in parts)
        if PurePosixPath(name).suffix.lower() in suffixes and not hidden:
            files.append((name, tuple(part for part in parts[:-1] if part not in ("/", ".."))))
    while files and all(len(f) > 1 and f[0] == files[0][1][0] for _, f in files):
        files = [(name, folders[1:]) for name, folders in files]
    labelled = [(name, folders) for name, folders in files if folders]
    rng = random.Random(seed)
    rng.shuffle(labelled)
    if {folders[0] for _, folders in labelled} >= set(SPLITS):
        return {
            split: [(name, f[1]) for name, f in labelled if f[0] == split and len(f) > 1]
            for split in SPLITS
        }
    splits: dict[str, list[_File]] = {split: [] for split in SPLITS}
    for label, members in _by_class([(name, folders[0]) for name, folders in labelled]).items():
        num_test = max(1, round(HELD_OUT * len(members)))
        splits["test"] += [(name, label) for name in members[:num_test]]
        splits["train"] += [(name, label) for name in members[num_test:]]
    return splits


def _by_class(files: Sequence[_File]) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {}
    for name, label in files:
        members.setdefault(label, []).append(name)
    return dict(sorted(members.items()))


def _decode_all(
    files: Sequence[_File], classes: Sequence[str], read: _Read, limit: int | None
) -> ImageSet:
    """Decode files until every class has its share of the limit, or has no more files."""
    by_class = _by_class(files)
    pixels, labels, unreadable = [], [], []
    left = len(files) if limit is None else min(limit, len(files))
    # Small classes come first: the part of their share that they cannot fill goes to the others.
    for position, label in enumerate(sorted(by_class, key=lambda name: len(by_class[name]))):
        share, taken = -(-left // (len(by_class) - position)), 0
        for name in by_class[label]:
            if taken == share:
                break
            try:
                pixels.append(_decode(read(name)))
            # Pillow's decoders may raise nearly any exception on a damaged file.
            except Exception as error:
                unreadable.append(f"{name}: {error or type(error).__name__}")
                continue
            labels.append(classes.index(label))
            taken += 1
        left -= taken
    stacked = np.stack(pixels) if pixels else np.empty((0, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    return ImageSet(
        images=torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous(),
        labels={"class": np.array(labels, np.int64)},
        classes={"class": tuple(classes)},
        unreadable=tuple(unreadable),
    )


def _decode(data: bytes) -> NDArray[np.uint8]:
    """Return an image as [32, 32, 3], upright, scaled and cropped to the middle square."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(data)) as file:
            # The camera's orientation tag would otherwise decide what "upright" means.
            image = to_8_bits(ImageOps.exif_transpose(file), file).convert("RGB")
    if image.size != (IMAGE_SIZE, IMAGE_SIZE):
        image = ImageOps.fit(image, (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return np.asarray(image)


def _read_file(path: Path) -> bytes:
    _check_size(path.stat().st_size)
    return path.read_bytes()


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    # The declared size limits how much is decompressed: zipfile reads no further.
    _check_size(archive.getinfo(name).file_size)
    return archive.read(name)


def _check_size(num_bytes: int) -> None:
    if num_bytes > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES} bytes")
