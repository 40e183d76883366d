"""``python -m examples.mpssl.study`` and the name of a study, or ``pictures``."""

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated

from examples.common.extra import needs_the_extra

with needs_the_extra():
    import typer

    from examples.mpssl.study import plan
    from examples.mpssl.study.ablation import StudyConfig
    from examples.mpssl.study.pictures import draw_results, draw_runs, tables_of_both_kinds
    from examples.mpssl.study.runner import run_all
    from examples.mpssl.study.summary import as_markdown

app = typer.Typer(add_completion=False, help=__doc__)

RESULTS = Path(__file__).parents[1] / "results"

Plan = Callable[[int], Iterable[StudyConfig]]
PlanOfData = Callable[[int, str], Iterable[StudyConfig]]
Seeds = Annotated[int, typer.Option(min=1, help="Number of seeds.")]
Jobs = Annotated[int, typer.Option(min=1, help="Processes, one thread each.")]
Out = Annotated[Path, typer.Option(help="Folder of the runs.")]
Results = Annotated[
    Path, typer.Option(help="File of the results. Runs in it or in a file next to it are reused.")
]


def _results_of(name: str) -> Path:
    return RESULTS / f"study_{name.replace('-', '_')}.json"


def _on_built_in_images(name: str, planned: Plan, seeds: int, text: str) -> None:
    """Add the command of a study on built-in images, which needs no data."""
    file = _results_of(name)

    @app.command(name, help=text)
    def study(
        seeds: Seeds = seeds,
        jobs: Jobs = 2,
        out: Out = Path(f"runs/study-{name}"),
        results: Results = file,
    ) -> None:
        _study(list(planned(seeds)), out, results, jobs)


for name, planned, seeds, text in (
    ("procedural", plan.procedural, 3, "Task sets × solvers on built-in images."),
    ("ablation", plan.ablation, 3, "One change at a time: order, rotations, mixing, source."),
    ("turned", plan.turned, 3, "Solvers on built-in images that have no upright."),
    ("fresh", plan.fresh, 5, "Bounds on the weights, on seeds that nothing was chosen on."),
    ("fresh-turned", plan.fresh_turned, 5, "The same on images that have no upright."),
):
    _on_built_in_images(name, planned, seeds, text)


def _on_cifar10(name: str, planned: PlanOfData, seeds: int, text: str) -> None:
    """Add the command of a study on CIFAR-10."""
    file = _results_of(name)

    @app.command(name, help=text)
    def study(
        data: Annotated[str, typer.Option(help="Folder or zip of CIFAR-10.")],
        seeds: Seeds = seeds,
        jobs: Jobs = 2,
        out: Out = Path(f"runs/study-{name}"),
        results: Results = file,
    ) -> None:
        _study(list(planned(seeds, data)), out, results, jobs)


for name, of_data, seeds, text in (
    ("cifar10", plan.cifar10, 3, "Solvers on 10,000 images of CIFAR-10."),
    ("cifar10-turned", plan.cifar10_turned, 3, "The same images, turned at random."),
    ("rotnet", plan.rotnet, 1, "All images and RotNet's trunk, on a GPU."),
):
    _on_cifar10(name, of_data, seeds, text)


@app.command()
def pictures(
    data: Annotated[
        str | None,
        typer.Option(help="Folder or zip of CIFAR-10 (default: the built-in images)."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the study's runs.")] = None,
    results: Annotated[Path, typer.Option(help="Folder of results and pictures.")] = RESULTS,
) -> None:
    """Draw the results, and one run of each solver; missing runs in ``out`` are trained first."""
    name = "procedural" if data is None else "cifar10"
    found = json.loads((results / f"study_{name}.json").read_text())
    draw_results(found, name, results)
    if data is None:
        _write_both_kinds(results)
    draw_runs(data, name, out or Path(f"runs/study-{name}"), results)


def _write_both_kinds(folder: Path) -> None:
    (folder / "both_kinds.md").write_text(tables_of_both_kinds(folder))


def _study(configs: Sequence[StudyConfig], out: Path, results: Path, jobs: int) -> None:
    results.parent.mkdir(parents=True, exist_ok=True)
    known = [
        result
        for path in sorted(results.parent.glob("study_*.json"))
        for result in json.loads(path.read_text()).values()
    ]
    try:
        found = run_all(configs, out, known, jobs=jobs)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    # One line per run, so that the file can be read and compared line by line.
    lines = [f"{json.dumps(name)}: {json.dumps(result)}" for name, result in found.items()]
    results.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    command = shlex.join(["python", "-m", "examples.mpssl.study", *sys.argv[1:]])
    results.with_suffix(".md").write_text(as_markdown(found, command))


if __name__ == "__main__":
    app()
