"""What can be known before the first run begins, so that nothing is lost for a mistake."""

import torch

from examples.common.checkpoint import DAMAGED
from examples.common.data.image_set import ImageSet
from examples.common.run_folder import RunFolder
from examples.mpssl.presets import RunConfig
from examples.mpssl.run import ranks
from examples.mpssl.train import Training


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
