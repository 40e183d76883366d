"""Runs that are already in a folder, and that a command must not overwrite."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from examples.common.run_folder import Config, RunFolder

_FREE = frozenset({"threads", "device"})  # changing these does not make another experiment


def check_runs_in(
    out: Path, asked: Mapping[Path, Config], *, kinds: Iterable[str] = (), resumable: bool = False
) -> None:
    """Raise a ValueError if a folder has runs other than the requested ones.

    A run without a checkpoint, such as one that diverged at once, does not count: nothing is lost.

    Args:
        out: The folder of all runs.
        asked: The requested runs, by their folders.
        kinds: Subfolders that may also hold runs.
        resumable: Whether ``--resume`` would continue in such a folder.
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
