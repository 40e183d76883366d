"""Where a result was measured."""

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

_PACKAGES = (
    "gradbalance",
    "torch",
    "numpy",
    "scipy",
    "torchjd",
    "cvxpy",
    "clarabel",
    "quadprog",
    "rdkit",
)


def environment() -> dict[str, str]:
    """Date, machine, versions, the commit and threads."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "CPU": _cpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        **{name: found for name in _PACKAGES if (found := _version(name)) is not None},
        **({"commit": _LOADED} if _LOADED else {}),
        "threads": f"{torch.get_num_threads()} (OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']})",
    }


def heading(title: str, docstring: str | None, found_in: Mapping[str, str]) -> list[str]:
    """The first lines of a result: its title, what a script's docstring says, and where it was.

    Args:
        title: of the page.
        docstring: the script's; all but its first sentence, which is a line.
        found_in: what `environment` returned then.
    """
    what = (docstring or "").strip().split("\n")[2:]
    return [f"# {title}", "", *what, "", *(f"- {key}: {value}" for key, value in found_in.items())]


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _commit() -> str:
    """Of the checkout that this file is in; empty outside one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


# Of the code that was loaded, whatever is committed while a benchmark runs.
_LOADED = _commit()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
