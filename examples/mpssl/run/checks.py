"""What can be known before the first run begins, so that nothing is lost for a mistake."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from examples.common.checkpoint import DAMAGED
from examples.common.data.image_set import ImageSet
from examples.common.run_folder import RunFolder
from examples.mpssl.presets import RunConfig
from examples.mpssl.run import ranks
from examples.mpssl.train import Training

_REMEDY = "give another --out, or --resume to go on in it"


def check_runs_in(out: Path, kinds: Iterable[str], asked: Mapping[Path, RunConfig]) -> None:
    """Raise a ValueError if a folder has runs that are not those asked for.

    Args:
        out: The folder of all runs.
        kinds: Folders in it that may hold runs, too.
        asked: The runs by their folders.
    """
    found = [out.glob("*/config.json"), *(out.glob(f"{kind}/*/config.json") for kind in kinds)]
    for folder in sorted(file.parent for files in found for file in files):
        name = folder.relative_to(out).as_posix()
        if folder not in asked:
            raise ValueError(
                f"{str(out)!r} has {name!r}, which is not among those asked for: {_REMEDY}"
            )
        difference = RunFolder(folder).difference(asked[folder], free={"threads", "device"})
        if difference is not None:
            option, before, now = difference
            raise ValueError(
                f"{str(out)!r} has another run: {name!r} had {option} {before!r}, got {now!r}; "
                f"{_REMEDY} with the same options"
            )


def try_out(config: RunConfig, train_set: ImageSet, folder: RunFolder, *, resume: bool) -> None:
    """Take one step of a run and forget it, and read what it would go on from.

    Args:
        config: The run.
        train_set: Its training images.
        folder: Where its files are, or will be; nothing in it is changed.
        resume: Whether it would go on.

    Raises:
        ValueError: Something does not go together, or a file is damaged.
    """
    training = Training(config, train_set)
    training.step(torch.arange(training.batch_size))
    if not resume or not ranks.is_first():
        return
    folder.check_same(config)
    state = folder.checkpoint(config)
    if state is None:
        return
    try:
        training.load_state_dict(state)
    except DAMAGED as error:
        raise ValueError(
            f"{str(folder.checkpoint_file)!r} is of another version or damaged "
            f"({type(error).__name__}): put back a copy, or delete it to begin anew"
        ) from error
