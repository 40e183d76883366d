"""The command line: ``python -m benchmarks.tasks --quick``."""

import argparse
import os
from pathlib import Path

import torch

from benchmarks.environment import environment
from benchmarks.results import rounded, write_json
from benchmarks.tasks.picture import draw_ranks
from benchmarks.tasks.run import SCALES
from benchmarks.tasks.store import Store
from benchmarks.tasks.study import PLAIN, RATES, STATIC, Study
from benchmarks.tasks.suites import NAMES, NotAtHand, suite_of
from benchmarks.tasks.tables import as_markdown, compared, rows_of
from examples.common.solvers import build_solver

SOLVERS = (
    *(PLAIN, STATIC, "RLW", "UW", "IMTLL", "SI", "GLS", "STCH", "DWA", "FAMO"),
    *("MGDA", "MGDA(normalization='l2')", "MGDA(normalization='loss+')", "UPGrad", "DualProj"),
    *("CAGrad", "NashMTL", "FairGrad(alpha=2.0)", "ConFIG", "IMTLG", "AlignedMTL", "PCGrad"),
    *("GradVac", "GradNorm", "DBMTL", "InverseNorm", "EPO", "SDMGrad", "Krum"),
    *("Scaled(IMTLG(), by=IMTLL())", "Scaled(UPGrad(), by=UW())"),
    *("Scaled(UPGrad(), by=InverseNorm())", "Scaled(MoDo(), by=InverseNorm())"),
    *("AveragedGramian(NashMTL())", "MainTask", "GradCosine", "PCD"),
)
QUICK_SUITES = ("digits", "targets-standardised")
QUICK_SOLVERS = (PLAIN, "RLW", "FAMO", "UPGrad", "NashMTL", "DBMTL")
RESULTS = Path(__file__).parent / "results"
DATA = "GRADBALANCE_IMAGES"  # the environment variable that stands for --data


def main(arguments: list[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    quick = options.quick
    names = options.suites or (QUICK_SUITES if quick else NAMES)
    solvers = [*(options.solvers or (QUICK_SOLVERS if quick else SOLVERS)), *options.solver]
    seeds = options.seeds or ((0,) if quick else (0, 1, 2))
    rates = options.rates or ((1e-2,) if quick else RATES)
    out = options.out or (Path("runs/tasks-quick") if quick else RESULTS)
    try:
        methods = _methods(solvers)
    except ValueError as error:
        parser.error(str(error))
    studies, notes = [], [f"- seeds: {', '.join(map(str, seeds))}; learning rates: {rates}"]
    for name in names:
        try:
            suite = suite_of(name, options.data)
        except NotAtHand as reason:
            notes.append(f"- {name} is left out: {reason}")
            print(notes[-1].removeprefix("- "))
            continue
        num_steps = options.num_steps or (suite.num_steps // 2 if quick else suite.num_steps)
        studies.append(Study(*(name, suite, methods, seeds), num_steps=num_steps, rates=rates))
    if not studies:
        parser.error("no suite is left")
    store = Store(out / "runs.jsonl", data=options.data, num_jobs=options.jobs)
    for stage in range(2):
        store.do(run for study in studies for run in study.runs(stage, store))
    _report(studies, store, notes, out)


def _report(studies: list[Study], store: Store, notes: list[str], out: Path) -> None:
    suites = {s.name: rounded(rows_of(s.found(store), s.suite.metrics)) for s in studies}
    result = {"environment": environment(), "overall": compared(suites), **suites}
    text = as_markdown(result, {s.name: s.suite.metrics for s in studies}, notes)
    write_json(out / "tasks.json", result)
    (out / "tasks.md").write_text(text)
    draw_ranks(result["overall"], suites, out / "ranks.png")
    print(f"{text}\nWritten to {out}")


def _methods(solvers: list[str]) -> list[str]:
    """The methods, the plain sum first, each once; all can be built."""
    for solver in solvers:
        if solver != STATIC:
            name, at, scale = solver.partition(" @ ")
            build_solver(name)
            if at and scale not in SCALES:
                raise ValueError(f"the scale in {solver!r} must be one of {', '.join(SCALES)}")
    return [*dict.fromkeys([PLAIN, *solvers])]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tasks",
        description="Multi-task suites × solvers × seeds. What the results have is not run again.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a subset in about a minute; not to be quoted")
    add("--suites", nargs="+", choices=NAMES, metavar="SUITE", help=f"of {', '.join(NAMES)}")
    add("--solvers", nargs="+", help=f"instead of all; {STATIC!r} tunes fixed ones")
    add(
        "--solver",
        action="append",
        default=[],
        help="one more, such as 'MGDA @ none', at that scale, or mypackage.MySolver(alpha=2)",
    )
    add("--seeds", nargs="+", type=int, help="of weights and batches (default: 0 1 2)")
    add("--rates", nargs="+", type=float, help=f"learning rates to choose from (default: {RATES})")
    add("--num-steps", type=int, help="of each run (default: the suite's)")
    add("--jobs", type=int, default=1, help="processes, of one thread each")
    add(
        "--data",
        type=Path,
        default=os.environ.get(DATA),
        help=f"images of the cifar suite, a folder or zip (default: what {DATA} says)",
    )
    add("--out", type=Path, help=f"folder of the results (default: {RESULTS.parent.name}/results)")
    return parser


if __name__ == "__main__":
    main()
