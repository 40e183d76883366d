"""The files of a run: configuration, metrics, checkpoint and results, all in one folder."""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

import gradbalance as gb
from examples.common.checkpoint import load_checkpoint, save_checkpoint

# These may change when a run is resumed: they do not determine its result.
_FREE_TO_CHANGE = frozenset({"data", "threads", "device"})


@dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of a run; each example derives its own and adds its options."""

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON-compatible values."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]


class RunFolder:
    """The folder of one run.

    Args:
        path: The folder; ``start`` creates it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics_file = path / "metrics.jsonl"
        self.results_file = path / "results.json"
        self.config_file = path / "config.json"
        self.checkpoint_file = path / "checkpoint.pt"

    def start(self, config: Config, *, resume: bool) -> dict[str, Any] | None:
        """Begin a run, or continue the one in this folder.

        Args:
            config: The configuration of the run.
            resume: Continue from the checkpoint if there is one; otherwise start from scratch and
                delete the run that was there.

        Returns:
            The checkpoint to continue from, or None.

        Raises:
            ValueError: The run to be resumed has another configuration, or one of its files is
                damaged. In this case nothing is changed.
        """
        state = self.checkpoint(config) if resume else None
        self.path.mkdir(parents=True, exist_ok=True)
        if state is not None:
            # The steps after the checkpoint are run and logged again, so their lines are removed.
            with self.metrics_file.open("r+b") as file:
                file.truncate(state["metrics_bytes"])
            return state
        for old in (self.checkpoint_file, self.metrics_file, self.results_file):
            old.unlink(missing_ok=True)
        self.metrics_file.touch()
        self.config_file.write_text(json.dumps(config.as_dict(), indent=2) + "\n")
        return None

    def checkpoint(self, config: Config) -> dict[str, Any] | None:
        """Return the checkpoint to continue from, or None; no file is changed.

        Args:
            config: The configuration of the run.

        Raises:
            ValueError: In the same cases as ``start``.
        """
        if not self.checkpoint_file.exists():
            return None
        self.check_same(config)
        state = load_checkpoint(self.checkpoint_file)
        logged = self.metrics_file.stat().st_size if self.metrics_file.exists() else 0
        if logged < state.get("metrics_bytes", math.inf):
            raise ValueError(
                f"{str(self.metrics_file)!r} lacks what was logged before its checkpoint: put back "
                f"a copy, or delete {str(self.checkpoint_file)!r} to begin anew"
            )
        return state

    def difference(
        self, config: Config, *, free: Collection[str] = _FREE_TO_CHANGE
    ) -> tuple[str, Any, Any] | None:
        """Return an option that differs between the run in this folder and a configuration.

        Args:
            config: The configuration to compare with.
            free: Options that do not count.

        Returns:
            The option's name, its value in the folder and its value in ``config``. None if nothing
            differs, or if the folder has no run.

        Raises:
            ValueError: The folder's configuration is damaged.
        """
        if not self.config_file.exists():
            return None
        try:
            read = dict(json.loads(self.config_file.read_text()))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{str(self.config_file)!r} is empty or damaged: put back a copy, or delete "
                f"{str(self.path)!r} to begin anew"
            ) from error
        # Runs of earlier versions lack the options that were added later.
        before = {**{option.name: option.default for option in fields(config)}, **read}
        for key, now in config.as_dict().items():
            if key not in free and before[key] != now:
                return key, before[key], now
        return None

    def check_same(self, config: Config) -> None:
        """Raise a ValueError that names the option in which the run in this folder differs.

        Args:
            config: The configuration of the run to be continued.
        """
        found = self.difference(config)
        if found is not None:
            key, before, now = found
            raise ValueError(
                f"cannot resume {str(self.path)!r}: its {key} was {before!r}, "
                f"got {now!r}; use the same option, or another folder"
            )

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a line to the metrics, without NaN and infinity, which JSON does not support.

        Args:
            record: Plain values.
        """
        known = {
            key: value
            for key, value in record.items()
            if not isinstance(value, float) or math.isfinite(value)
        }
        with self.metrics_file.open("a") as file:
            file.write(json.dumps(known, allow_nan=False) + "\n")

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Save the state of a run, and the current length of its metrics file.

        Args:
            state: Tensors and plain values.
        """
        metrics_bytes = self.metrics_file.stat().st_size
        save_checkpoint(self.checkpoint_file, {**state, "metrics_bytes": metrics_bytes})

    def metrics(self) -> Iterator[dict[str, Any]]:
        """Yield the logged records."""
        with self.metrics_file.open() as file:
            yield from map(json.loads, file)

    def history(self) -> gb.History:
        """Return the run's reports, read from the metrics file, which survives an interruption."""
        history = gb.History()
        for record in self.metrics():
            if record["kind"] == "step":
                history.append(_report(record))
        return history

    def save_results(self, results: Mapping[str, Any]) -> None:
        """Write the results of a finished run.

        Args:
            results: Plain values.
        """
        self.results_file.write_text(json.dumps(results, indent=2) + "\n")


def _report(record: Mapping[str, Any]) -> gb.Report:
    names = tuple(key.removeprefix("loss/") for key in record if key.startswith("loss/"))

    def per_task(kind: str) -> Any:
        return np.array([record.get(f"{kind}/{name}", np.nan) for name in names])

    gram = None
    if f"norm/{names[0]}" in record:
        norms = per_task("norm")
        cosines = np.eye(len(names))
        for i, first in enumerate(names):
            for j in range(i + 1, len(names)):
                cosines[i, j] = cosines[j, i] = record.get(f"cosine/{first}/{names[j]}", np.nan)
        gram = cosines * norms[:, None] * norms
    return gb.Report(
        names=names,
        losses=per_task("loss"),
        weights=per_task("weight"),
        gram=gram,
        solver="",
        status=None,
    )
