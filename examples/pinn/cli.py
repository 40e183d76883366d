"""The command line: a few runs and their pictures, or many and their table."""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from examples.common.checks import check_folder
from examples.common.choices import check_one_of
from examples.pinn.compare import compare as compare_runs
from examples.pinn.config import RunConfig
from examples.pinn.methods import METHODS, Method
from examples.pinn.pictures import draw_solutions, draw_training
from examples.pinn.problems import PROBLEMS
from examples.pinn.progress import RunsProgress
from examples.pinn.side_by_side import train_side_by_side
from examples.pinn.train import Run

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)

RESULTS = Path(__file__).parent / "results"

Problem = Annotated[str, typer.Option(help=f"Which of {', '.join(PROBLEMS)}.")]
Solvers = Annotated[
    str, typer.Option(help=f"Methods, with commas between, or all: {', '.join(METHODS)}.")
]
Solver = Annotated[
    str | None,
    typer.Option(help="Any gradbalance solver beside the plain sum, such as PCGrad."),
]
Scale = Annotated[str, typer.Option(help="Of --solver's weights: none, sum or norm.")]
DType = Annotated[str, typer.Option(help="float64 or float32.")]
AdamSteps = Annotated[int, typer.Option(help="Steps of Adam.")]
LbfgsSteps = Annotated[int, typer.Option(help="Iterations of L-BFGS, with held weights.")]
Lr = Annotated[float, typer.Option(help="Learning rate of Adam, at the start of its schedule.")]
Width = Annotated[int, typer.Option(help="Of the hidden layers.")]


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    problem: Problem = RunConfig.problem,
    solvers: Solvers = "sum,upgrad",
    solver: Solver = None,
    scale: Scale = "norm",
    dtype: DType = RunConfig.dtype,
    adam_steps: AdamSteps = RunConfig.adam_steps,
    lbfgs_steps: LbfgsSteps = RunConfig.lbfgs_steps,
    lr: Lr = RunConfig.lr,
    width: Width = RunConfig.width,
    seed: Annotated[int, typer.Option(help="Of the weights and the points.")] = RunConfig.seed,
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("runs/pinn"),
) -> None:
    """Solve a differential equation with a network: with the plain sum of its losses, and balanced.

    Without arguments: Helmholtz's equation, with the plain sum and with UPGrad.
    """
    if context.invoked_subcommand is not None:
        return
    console = Console()
    options = {
        "problem": problem,
        "dtype": dtype,
        "adam_steps": adam_steps,
        "lbfgs_steps": lbfgs_steps,
        "lr": lr,
        "width": width,
    }
    try:
        configs = _configs(solvers, solver, scale, [seed], options)
        check_folder(out)
        started = time.perf_counter()
        with RunsProgress(console, configs) as progress:
            runs = train_side_by_side(configs, progress.show)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    out.mkdir(parents=True, exist_ok=True)
    draw_solutions(runs, out / f"{problem}_solutions.png")
    draw_training(runs, out / f"{problem}_training.png")
    _print_errors(runs, console)
    seconds = time.perf_counter() - started
    console.print(
        f"{seconds:.0f} s; {problem}_solutions.png and {problem}_training.png are in {out}/",
        soft_wrap=True,
    )


@app.command()
def compare(
    problem: Problem = RunConfig.problem,
    solvers: Solvers = "all",
    solver: Solver = None,
    scale: Scale = "norm",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 3,
    dtype: DType = RunConfig.dtype,
    adam_steps: AdamSteps = RunConfig.adam_steps,
    lbfgs_steps: LbfgsSteps = RunConfig.lbfgs_steps,
    lr: Lr = RunConfig.lr,
    width: Width = RunConfig.width,
    jobs: Annotated[int, typer.Option(min=1, help="Processes, one thread each.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder of results, tables and pictures.")] = RESULTS,
) -> None:
    """Do the runs that are not among the results yet, and make their table and picture."""
    options = {
        "problem": problem,
        "dtype": dtype,
        "adam_steps": adam_steps,
        "lbfgs_steps": lbfgs_steps,
        "lr": lr,
        "width": width,
    }
    name = problem if dtype == RunConfig.dtype else f"{problem}_{dtype}"
    command = shlex.join(["python", "-m", "examples.pinn", *sys.argv[1:]])
    try:
        configs = _configs(solvers, solver, scale, range(seeds), options)
        check_folder(out)
        file = out / f"{name}.jsonl"
        compare_runs(configs, file, command=command, jobs=jobs, console=Console())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _configs(
    solvers: str, solver: str | None, scale: str, seeds: Sequence[int], options: dict[str, Any]
) -> list[RunConfig]:
    chosen = list(METHODS) if solvers == "all" else [name.strip() for name in solvers.split(",")]
    for name in chosen:
        check_one_of("solvers", name, METHODS)
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"each method can be given once, got {solvers}")
    methods = {name: METHODS[name] for name in chosen}
    if solver is not None:
        methods = {"sum": METHODS["sum"], solver: Method(solver, scale)}  # type: ignore[arg-type]
    return [
        RunConfig(name=name, seed=seed, **asdict(method), **options)
        for seed in seeds
        for name, method in methods.items()
    ]


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
