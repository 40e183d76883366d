"""``python -m examples.metapseudo.study``, with the name of a study."""

import shlex
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated

from examples.common.extra import needs_the_extra

with needs_the_extra():
    import typer
    from rich.console import Console

    from examples.common.data.unreadable import name_unreadable
    from examples.common.only_one import only_one
    from examples.metapseudo.config import RunConfig
    from examples.metapseudo.data.load import load_files, load_source_images
    from examples.metapseudo.generators.source import load_source
    from examples.metapseudo.run.compare import write_results
    from examples.metapseudo.run.pictures import draw_accuracy
    from examples.metapseudo.run.runs import Do, Result, run, run_all
    from examples.metapseudo.study import plan
    from examples.metapseudo.study.find_only import find_only
    from examples.metapseudo.study.pictures import draw_sources
    from examples.metapseudo.study.summary import as_markdown, of_latents

app = typer.Typer(add_completion=False, help=__doc__)

RESULTS = Path(__file__).parents[1] / "results"

Seeds = Annotated[int, typer.Option(min=1, help="Number of seeds.")]
Jobs = Annotated[int, typer.Option(min=1, help="Processes, one thread each.")]
Out = Annotated[Path, typer.Option(help="Folder of the runs, which studies share.")]
Results = Annotated[Path, typer.Option(help="Folder of tables and pictures.")]

_OUT = Path("runs/metapseudo-study")


@app.command()
def accuracy(
    seeds: Annotated[int, typer.Option(min=1, help="Seeds at 1 and 4 labels a class.")] = 20,
    few_seeds: Annotated[int, typer.Option(min=0, help="Seeds at 16 and 64 labels.")] = 5,
    jobs: Jobs = 2,
    out: Out = _OUT,
    results: Results = RESULTS,
) -> None:
    """What samples are worth, between labels alone and real images."""
    found = _study(plan.accuracy(seeds, few_seeds), "accuracy", out, results, jobs)
    draw_accuracy(found, results / "accuracy.png")


@app.command()
def latents(seeds: Seeds = 5, jobs: Jobs = 2, out: Out = _OUT, results: Results = RESULTS) -> None:
    """Every gap with every map: which share of the samples becomes target-like."""
    _study(plan.latents(seeds), "latents", out, results, jobs)


@app.command()
def validation(
    seeds: Seeds = 5, jobs: Jobs = 2, out: Out = _OUT, results: Results = RESULTS
) -> None:
    """The validation loss of the latents, alone and with the gap, and the paper's own form."""
    _study(plan.validation(seeds), "validation", out, results, jobs)


@app.command()
def generators(
    seeds: Seeds = 5, jobs: Jobs = 2, out: Out = _OUT, results: Results = RESULTS
) -> None:
    """What a blurred generator costs; it is trained by ``train_source`` first."""
    _study(plan.generators(seeds), "generators", out, results, jobs)


@app.command()
def photographs(
    seeds: Seeds = 3,
    data: Annotated[str, typer.Option(help="Folder or zip of images.")] = "cifar10.zip",
    jobs: Jobs = 2,
    out: Out = Path("runs/metapseudo-photographs"),
    results: Results = RESULTS,
) -> None:
    """The same on real images, by generators that ``train_source`` trained on other classes."""
    try:
        name_unreadable(Console(), *load_files(data))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    found = _study(plan.photographs(seeds, data), "photographs", out, results, jobs)
    draw_accuracy(found, results / "photographs.png")
    files = {"adversarial": plan.PHOTOGRAPHS_BY[""], "blurred": plan.PHOTOGRAPHS_BY[plan.BLURRED]}
    generators = {name: load_source(file).generator for name, file in files.items()}
    draw_sources(generators, load_source_images(data), results / "photographs_samples.png")


def _study(
    planned: Iterable[RunConfig], name: str, out: Path, results: Path, jobs: int
) -> list[Result]:
    # A study uses only the end of its runs, and they are short.
    do: Do = find_only if name == "latents" else partial(run, num_parts=1)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with only_one(out):
            found = run_all(list(planned), out, jobs=jobs, console=Console(), do=do)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    # Of the latents all evaluations are kept, of the classifiers only the last one.
    found = [{**result, "evaluations": result["evaluations"][-1:]} for result in found]
    command = shlex.join(["python", "-m", "examples.metapseudo.study", *sys.argv[1:]])
    results.mkdir(parents=True, exist_ok=True)
    write_results(found, command, results / f"{name}.json")
    text = of_latents if name == "latents" else as_markdown
    (results / f"{name}.md").write_text(text(found, command))
    return found


if __name__ == "__main__":
    app()
