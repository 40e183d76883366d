"""How far a run has come: a live bar in a terminal, a few lines anywhere else."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from examples.pinn.config import RunConfig
from examples.pinn.train import Record

_LINES = 5  # of a run, where there is no terminal


class RunProgress:
    """Shows how a run stands; a context manager.

    Args:
        console: Where to show it.
        config: The run.
    """

    def __init__(self, console: Console, config: RunConfig) -> None:
        self._console, self._config = console, config
        self._num_steps = config.adam_steps + config.lbfgs_steps
        self._num_lines = 0
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[stands]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._id = self._bar.add_task(config.name, total=self._num_steps, stands="")

    def __enter__(self) -> "RunProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, record: Record) -> None:
        """Show how the run stands now.

        Args:
            record: The latest.
        """
        phase = "Adam  " if record.step <= self._config.adam_steps else "L-BFGS"
        losses = "  ".join(f"{name} {loss:.1e}" for name, loss in record.losses.items())
        stands = f"{phase} error {record.error:.3f}  {losses}"
        self._bar.update(self._id, completed=record.step, stands=stands)
        lines_due = _LINES * record.step // self._num_steps
        if not self._console.is_terminal and lines_due > self._num_lines:
            self._num_lines = lines_due
            step = f"{record.step}/{self._num_steps}"
            # A log is searched by line: it is not wrapped to some terminal's width.
            self._console.print(f"{self._config.name}  {step}  {stands}", soft_wrap=True)
