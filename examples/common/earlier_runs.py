"""Runs that a folder has already, and that a command is not to take the place of."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from examples.common.run_folder import Config, RunFolder

_FREE = frozenset({"threads", "device"})  # another run is not another experiment for these


def check_runs_in(
    out: Path, asked: Mapping[Path, Config], *, kinds: Iterable[str] = (), resumable: bool = False
) -> None:
    """Raise a ValueError if a folder has runs that are not those asked for.

    A run that came to no checkpoint, as one that diverged at once, is none: nothing would be lost.

    Args:
        out: The folder of all runs.
        asked: The runs by their folders.
        kinds: Folders in it that may hold runs, too.
        resumable: Whether ``--resume`` would go on in such a folder.
    """
    remedy = "give another --out" + (", or --resume to go on in it" if resumable else "")
    found = [out.glob("*/config.json"), *(out.glob(f"{kind}/*/config.json") for kind in kinds)]
    for folder in sorted(file.parent for files in found for file in files):
        run = RunFolder(folder)
        saved = run.checkpoint_file.exists() or run.results_file.exists()
        if run.metrics_file.exists() and not saved:
            continue
        name = folder.relative_to(out).as_posix()
        if folder not in asked:
            raise ValueError(
                f"{str(out)!r} has {name!r}, which is not among those asked for: {remedy}"
            )
        difference = run.difference(asked[folder], free=_FREE)
        if difference is not None:
            option, before, now = difference
            same = " with the same options" if resumable else ""
            raise ValueError(
                f"{str(out)!r} has another run: {name!r} had {option} {before!r}, got {now!r}; "
                f"{remedy}{same}"
            )
