"""``python -m examples.pinn.study``: many methods over several seeds, as a table and a picture."""

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from examples.common.extra import needs_the_extra

with needs_the_extra():
    import typer
    from rich.console import Console

    from examples.common.checks import check_folder
    from examples.pinn.config import RunConfig
    from examples.pinn.methods import choose
    from examples.pinn.options import (
        AdamSteps,
        DType,
        LbfgsSteps,
        Lr,
        Problem,
        Scale,
        Solver,
        Width,
    )
    from examples.pinn.study.compare import compare
    from examples.pinn.study.methods import METHODS, StudyConfig

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)

RESULTS = Path(__file__).parents[1] / "results"


@app.command()
def main(
    problem: Problem = RunConfig.problem,
    solvers: Annotated[
        str, typer.Option(help=f"Methods, separated by commas, or all: {', '.join(METHODS)}.")
    ] = "all",
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
    """Do the runs that the results do not have yet, and make the table and the picture."""
    options: dict[str, Any] = {
        "problem": problem,
        "dtype": dtype,
        "adam_steps": adam_steps,
        "lbfgs_steps": lbfgs_steps,
        "lr": lr,
        "width": width,
    }
    name = problem if dtype == RunConfig.dtype else f"{problem}_{dtype}"
    command = shlex.join(["python", "-m", "examples.pinn.study", *sys.argv[1:]])
    try:
        methods = choose(METHODS, solvers, solver, scale)
        configs = [
            StudyConfig(name=name, seed=seed, **asdict(method), **options)
            for seed in range(seeds)
            for name, method in methods.items()
        ]
        check_folder(out)
        compare(configs, out / f"{name}.jsonl", command=command, jobs=jobs, console=Console())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


if __name__ == "__main__":
    app(prog_name="python -m examples.pinn.study")
