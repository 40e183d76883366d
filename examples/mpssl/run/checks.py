"""Checks all runs before the first one starts, so that a mistake costs no training time."""

import torch

from examples.common.checkpoint import DAMAGED
from examples.common.data.image_set import ImageSet
from examples.common.run_folder import RunFolder
from examples.mpssl.presets import RunConfig
from examples.mpssl.run import ranks
from examples.mpssl.train import Training


def try_out(config: RunConfig, train_set: ImageSet, folder: RunFolder, *, resume: bool) -> None:
    """Take one trial step of a run, and load the checkpoint that it would continue from.

    Args:
        config: The configuration of the run.
        train_set: The training images.
        folder: The run's folder, which may not exist yet; nothing in it is changed.
        resume: Whether the run would be resumed.

    Raises:
        ValueError: Some options do not work together, or a file is damaged.
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
