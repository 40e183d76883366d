"""The progress of a run: a live bar in a terminal, and one line per epoch anywhere else."""

from types import TracebackType

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import gradbalance as gb


class RunProgress:
    """A context manager that shows the mean losses and weights of the current epoch.

    Args:
        console: The console that shows them.
        name: Name of the run.
        epochs: Number of epochs of the run.
        steps_per_epoch: Number of steps per epoch.
        epochs_done: Number of epochs that were done before, if the run is resumed.
    """

    def __init__(
        self, console: Console, *, name: str, epochs: int, steps_per_epoch: int, epochs_done: int
    ) -> None:
        self._console, self._name = console, name
        self._epochs, self._steps_per_epoch = epochs, steps_per_epoch
        self._step = epochs_done * steps_per_epoch
        self._reports: list[gb.Report] = []
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
            console=console,
        )
        self._bar_id = self._bar.add_task(
            name, total=epochs * steps_per_epoch, completed=self._step
        )
        self._live = (
            Live(console=console, refresh_per_second=4, get_renderable=self._render)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> "RunProgress":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def step(self, report: gb.Report) -> None:
        """Count a step.

        Args:
            report: The balancer's report of this step.
        """
        if self._step % self._steps_per_epoch == 0:
            self._reports = []
        self._step += 1
        self._reports.append(report)
        self._bar.update(self._bar_id, completed=self._step)
        if self._live is None and self._step % self._steps_per_epoch == 0:
            parts = (f"{name} {loss:.3f} (×{w:.2f})" for name, loss, w in self._means())
            epoch = f"epoch {self._step // self._steps_per_epoch}/{self._epochs}"
            # People search logs by line, so lines are not wrapped to a terminal's width.
            self._console.print(f"{self._name}  {epoch}  {'  '.join(parts)}", soft_wrap=True)

    def _means(self) -> list[tuple[str, float, float]]:
        """The name, mean loss and mean weight in this epoch, for each task."""
        losses = np.mean([report.losses for report in self._reports], axis=0)
        weights = np.mean([report.weights for report in self._reports], axis=0)
        return list(zip(self._reports[0].names, losses, weights, strict=True))

    def _render(self) -> Group:
        if not self._reports:
            return Group(self._bar)
        means = self._means()
        table = Table(box=None, padding=(0, 2))
        epoch = -(-self._step // self._steps_per_epoch)
        table.add_column(f"epoch {epoch}/{self._epochs}", style="dim")
        for name, _, _ in means:
            table.add_column(name, justify="right")
        table.add_row("loss", *(f"{loss:.3f}" for _, loss, _ in means))
        table.add_row("weight", *(f"{weight:.2f}" for _, _, weight in means))
        return Group(self._bar, table)
