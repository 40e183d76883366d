"""The progress of runs: live bars in a terminal, and a few lines of text anywhere else."""

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from examples.pinn.config import RunConfig
from examples.pinn.train import Record

_LINES = 5  # lines per run, if there is no terminal


class RunsProgress:
    """A context manager that shows the progress of runs.

    Args:
        console: The console that shows it.
        configs: The configurations of the runs.
    """

    def __init__(self, console: Console, configs: Sequence[RunConfig]) -> None:
        self._console = console
        self._num_lines = dict.fromkeys(configs, 0)
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[stands]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._ids = {
            config: self._bar.add_task(config.name, total=_num_steps(config), stands="")
            for config in configs
        }

    def __enter__(self) -> "RunsProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, config: RunConfig, record: Record) -> None:
        """Show the current progress of a run.

        Args:
            config: The configuration of the run.
            record: The latest record of the run.
        """
        phase = "Adam  " if record.step <= config.adam_steps else "L-BFGS"
        losses = "  ".join(f"{name} {loss:.1e}" for name, loss in record.losses.items())
        stands = f"{phase} error {record.error:.3f}  {losses}"
        self._bar.update(self._ids[config], completed=record.step, stands=stands)
        lines_due = _LINES * record.step // _num_steps(config)
        if not self._console.is_terminal and lines_due > self._num_lines[config]:
            self._num_lines[config] = lines_due
            step = f"{record.step}/{_num_steps(config)}"
            # People search logs by line, so lines are not wrapped to a terminal's width.
            self._console.print(f"{config.name}  {step}  {stands}", soft_wrap=True)


def _num_steps(config: RunConfig) -> int:
    return config.adam_steps + config.lbfgs_steps
