"""Describes the machine and the versions with which a result was measured."""

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
    """The date, machine, versions, commit and number of threads."""
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
    """The first lines of a result's page: title, explanation and environment.

    Args:
        title: title of the page.
        docstring: docstring of the script; all of it except the first line is the explanation.
        found_in: the result of `environment` when it was measured.
    """
    what = (docstring or "").strip().split("\n")[2:]
    return [f"# {title}", "", *what, "", *(f"- {key}: {value}" for key, value in found_in.items())]


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _commit() -> str:
    """The commit of the checkout that contains this file; empty outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


# The commit of the loaded code, even if there are new commits while a benchmark runs.
_LOADED = _commit()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
