"""The command line."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from examples.common.checks import check_folder
from examples.common.earlier_runs import check_runs_in
from examples.common.only_one import only_one
from examples.common.run_folder import RunFolder
from examples.pinn.config import RunConfig
from examples.pinn.methods import METHODS, choose
from examples.pinn.options import AdamSteps, DType, LbfgsSteps, Lr, Problem, Scale, Solver, Width
from examples.pinn.pictures import draw_solutions, draw_training
from examples.pinn.problems import PROBLEMS
from examples.pinn.progress import RunsProgress
from examples.pinn.side_by_side import train_side_by_side
from examples.pinn.train import Run

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)


@app.command()
def main(
    problem: Problem = RunConfig.problem,
    solvers: Annotated[
        str, typer.Option(help=f"Methods, separated by commas, or all: {', '.join(METHODS)}.")
    ] = "sum,upgrad",
    solver: Solver = None,
    scale: Scale = "norm",
    dtype: DType = RunConfig.dtype,
    adam_steps: AdamSteps = RunConfig.adam_steps,
    lbfgs_steps: LbfgsSteps = RunConfig.lbfgs_steps,
    lr: Lr = RunConfig.lr,
    width: Width = RunConfig.width,
    seed: Annotated[int, typer.Option(help="Seed of weights and points.")] = RunConfig.seed,
    out: Annotated[
        Path, typer.Option(help="Folder; each problem and seed gets a subfolder in it.")
    ] = Path("runs/pinn"),
) -> None:
    """Solve a differential equation with a network: by the plain sum of its losses, and balanced.

    Without arguments: Helmholtz's equation, with the plain sum and with UPGrad.
    """
    started = time.perf_counter()
    console = Console()
    options: dict[str, Any] = {
        "problem": problem,
        "seed": seed,
        "dtype": dtype,
        "adam_steps": adam_steps,
        "lbfgs_steps": lbfgs_steps,
        "lr": lr,
        "width": width,
    }
    folder = out / f"{problem}-{seed}"
    try:
        configs = [
            RunConfig(name=name, **asdict(method), **options)
            for name, method in choose(METHODS, solvers, solver, scale).items()
        ]
        check_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with only_one(folder):
            check_runs_in(folder, {folder / config.name: config for config in configs})
            with RunsProgress(console, configs) as progress:
                runs = train_side_by_side(configs, progress.show)
            _save(runs, folder)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    _print_errors(runs, console)
    seconds = time.perf_counter() - started
    console.print(
        f"{seconds:.0f} s; solutions.png, training.png and runs are in {folder}/", soft_wrap=True
    )


def _save(runs: Sequence[Run], out: Path) -> None:
    for run in runs:
        folder = RunFolder(out / run.config.name)
        folder.start(run.config, resume=False)
        for record in run.records:
            folder.log(asdict(record))
        folder.save_results(run.as_dict())
    draw_solutions(runs, out / "solutions.png")
    draw_training(runs, out / "training.png")


def _print_errors(runs: Sequence[Run], console: Console) -> None:
    table = Table(
        title=f"{PROBLEMS[runs[0].config.problem]().title}: relative L2 error",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("method")
    for column in ("after Adam", "after L-BFGS", "CPU s"):
        table.add_column(column, justify="right")
    for run in runs:
        table.add_row(
            run.config.name, f"{run.error_adam:.3g}", f"{run.error:.3g}", f"{run.seconds:.0f}"
        )
    console.print(table)
