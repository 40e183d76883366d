"""The study: what it runs, that done runs stay done, and what its tables say."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from examples.common.only_one import only_one
from examples.mpssl.study import __main__ as study
from examples.mpssl.study import ablation, plan, runner, summary
from examples.mpssl.study.summary import as_markdown

TINY = {"max_train": 48, "max_test": 48, "epochs": 1, "batch_size": 16}


def tiny_plan():
    wanted = ("random init----seed0", "rotation+sharpness--mgda--seed0")
    return [replace(c, **TINY) for c in plan.procedural(1) if c.name in wanted]


def test_runs_are_named_by_configuration_and_seed():
    for runs in (
        plan.procedural(3),
        plan.turned(3),
        plan.cifar10(3, "some.zip"),
        plan.cifar10_turned(3, "some.zip"),
        plan.rotnet(3, "some.zip"),
        plan.ablation(3),
    ):
        configs = list(runs)
        assert len({config.name for config in configs}) == len(configs)
        assert {config.seed for config in configs} == {0, 1, 2}


def test_what_was_chosen_is_confirmed_on_other_seeds_and_both_kinds_of_image():
    upright, turned = list(plan.fresh(5)), list(plan.fresh_turned(5))
    assert [replace(config, turned=True) for config in upright] == turned
    others = [*plan.procedural(3), *plan.turned(3), *plan.ablation(3)]
    seeds = {config.seed for config in upright}
    assert len(seeds) == 5
    assert not seeds & {config.seed for config in others}
    solvers = {config.name.split("--")[1] for config in upright}
    assert {"", "uniform", "mgda-loss+", "bounded-4", "bounded-5", "bounded-8"} <= solvers


def test_turned_images_meet_every_solver_that_upright_ones_do():
    turned = list(plan.turned(3))
    assert all(config.turned for config in turned)
    names = {config.name for config in plan.procedural(3)}
    four = {name for name in names if name.startswith("+".join(plan.FOUR_TASKS) + "--")}
    assert four <= {config.name for config in turned} <= names


def test_methods_are_compared_at_one_length_of_step():
    runs = [*plan.procedural(3), *plan.turned(3), *plan.fresh(3), *plan.cifar10(3, "some.zip")]
    assert {(config.scale, config.source) for config in runs} == {("norm", "representation")}
    assert {config.scale for config in plan.ablation(3)} == {"norm"}


def test_an_ablation_changes_one_thing_at_the_same_cost():
    base, *changed = [config for config in plan.ablation(1) if config.tasks != ("labels",)][1:]
    copies = {"one": 1, "all": 4}

    def inputs(config):
        return config.epochs * copies[config.rotations]

    for config in changed:
        assert inputs(config) == inputs(base), config.name
        ways = ("mixing", "rotations", "order", "source")
        assert sum(getattr(config, way) != getattr(base, way) for way in ways) == 1


def test_runs_that_are_done_are_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    configs = tiny_plan()
    assert len(configs) == 2
    for config in configs:
        runner.do_run(config, tmp_path)
    first = runner.run_all(configs, tmp_path, [], jobs=1)
    monkeypatch.setattr(runner, "do_run", None)  # whatever calls it fails
    assert runner.run_all(configs, tmp_path, [], jobs=1) == first
    known = list(first.values())
    assert runner.run_all(configs, tmp_path / "elsewhere", known, jobs=1) == first
    renamed = [replace(config, name=config.name + "1") for config in configs]
    taken_over = runner.run_all(renamed, tmp_path / "elsewhere", known, jobs=1)
    assert [result["probes"] for result in taken_over.values()] == [r["probes"] for r in known]
    json.dumps(first)
    trained = first["rotation+sharpness--mgda--seed0"]["training"]
    assert 0 < trained["final_loss/rotation"] < 5
    assert trained["mean_weight/rotation"] > 0
    by_kind = {runner._kind(result): result for result in known}
    for changed in (replace(configs[1], lr=0.1), replace(configs[1], data="cifar10.zip")):
        assert runner._done(changed, tmp_path, by_kind) is None


COMMITTED = sorted(path.stem.removeprefix("study_") for path in study.RESULTS.glob("study_*.json"))


@pytest.mark.parametrize("name", COMMITTED)
def test_what_is_committed_is_done_and_stays_as_it_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runner, "do_run", None)  # whatever calls it fails
    committed = study.RESULTS / f"study_{name}.json"
    copied = tmp_path / "results" / committed.name
    copied.parent.mkdir()
    copied.write_bytes(committed.read_bytes())
    of_data = ["cifar10.zip"] if name.startswith(("cifar10", "rotnet")) else []
    seeds = {run["config"]["seed"] for run in json.loads(committed.read_text()).values()}
    planned = getattr(plan, name)(len(seeds), *of_data)
    study._study(list(planned), tmp_path / "runs", copied, 1)
    # A line for each run, whatever their order.
    ours, theirs = (path.read_text().splitlines() for path in (copied, committed))
    assert {line.rstrip(",") for line in ours} == {line.rstrip(",") for line in theirs}


def test_an_ablated_run_is_trained_and_judged_on_inputs_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = []
    of_training, of_judging = runner.train, runner.judge

    def train(training, *args, **options):
        seen.append(training.make_batch)
        return of_training(training, *args, **options)

    def judge(model, config, train_set, test_set, make_batch):
        seen.append(make_batch)
        return of_judging(model, config, train_set, test_set, make_batch)

    monkeypatch.setattr(runner, "train", train)
    monkeypatch.setattr(runner, "judge", judge)
    config = replace(next(plan.procedural(1)), name="run", source="shared", mixing="separate")
    runner.do_run(replace(config, **TINY), tmp_path)
    assert seen == [ablation.separate, ablation.every_image_separate]


def test_two_studies_at_once_do_not_share_a_folder(tmp_path: Path):
    with only_one(tmp_path), pytest.raises(ValueError, match="another command is at work in"):
        runner.run_all(tiny_plan(), tmp_path, [], jobs=1)
    assert not list(tmp_path.iterdir())


def test_a_study_of_no_seeds_is_refused_and_leaves_the_results(tmp_path: Path):
    path = tmp_path / "study_this.json"
    path.write_text("{}")
    command = ["ablation", "--seeds", "0", "--results", str(path), "--out", str(tmp_path / "runs")]
    result = CliRunner().invoke(study.app, command)
    assert result.exit_code == 2, result.output
    assert path.read_text() == "{}"


def test_a_run_that_was_not_trained_stands_for_no_other(tmp_path: Path):
    untrained = next(plan.procedural(1))
    trained = replace(untrained, name="rotation+x--uniform--seed0")
    result = {"config": untrained.as_dict(), "training": {}}
    known = {runner._kind(result): result}
    assert runner._done(untrained, tmp_path, known) == result
    assert runner._done(trained, tmp_path, known) is None
    result["training"] = {"final_loss/rotation": 1.0}
    known = {runner._kind(result): result}
    assert runner._done(untrained, tmp_path, known) is None
    assert runner._done(trained, tmp_path, known) == result


def test_results_do_not_say_where_the_data_lay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = replace(tiny_plan()[0], data="/some/where/images.zip")
    monkeypatch.setattr(runner, "_done", lambda *args: {"config": config.as_dict()})
    found = runner.run_all([config], tmp_path, [], jobs=1)
    assert found[config.name]["config"]["data"] == "images.zip"
    moved = replace(config, data="elsewhere/images.zip")
    assert runner._kind_of(moved, trained=True) == runner._kind_of(config, trained=True)


def test_tables_give_mean_and_standard_deviation():
    def result(value):
        return {
            "probes": {"shape": {"block2": value, "block4": value, "knn": value}},
            "pretext": {"rotation": value},
            "training": {"final_loss/rotation": 10 * value, "mean_weight/rotation": 1.0},
        }

    results = {f"rotation--uniform--seed{i}": result(v) for i, v in enumerate((0.2, 0.4, 0.6))}
    results |= {f"random init----seed{i}": {**result(0.1), "training": {}} for i in range(3)}
    text = as_markdown(results, "the command")
    assert "3 seeds" in text
    assert "| uniform | 40.0 ± 20.0 | 40.0 ± 20.0 | 40.0 ± 20.0 |" in text
    assert "| random init | 10.0 ± 0.0 | 10.0 ± 0.0 | 10.0 ± 0.0 |" in text
    assert "| uniform | 40.0 ± 20.0 | 4.000 ± 2.000 | 1.000 ± 0.000 |" in text
    assert "Paired" not in text
    assert "clean images" not in text


def test_tables_of_five_seeds_pair_them_and_show_clean_statistics():
    def result(seed, value):
        probes = {
            factor: dict.fromkeys(("block2", "block4", "knn"), value)
            for factor in ("shape", "texture")
        }
        clean = {factor: dict.fromkeys(scores, value + 0.01) for factor, scores in probes.items()}
        return {
            "config": {"seed": seed},
            "probes": probes,
            "probes_clean": clean,
            "pretext": {"rotation": value},
            "training": {"mean_weight/rotation": 1.0},
        }

    values = {"uniform": (0.1, 0.2, 0.3, 0.4, 0.5), "other": (0.2, 0.4, 0.6, 0.8, 1.0)}
    results = {
        f"rotation+x--{solver}--seed{seed}": result(seed, value)
        for solver, of_solver in values.items()
        for seed, value in enumerate(of_solver)
    }
    text = as_markdown(results, "the command")
    clean = text[text.index(summary.CLEAN) : text.index("Paired by seed")]
    assert "| uniform | 31.0 ± 15.8 |" in clean
    half = 2.776445 * 15.811388 / 5**0.5
    cell = f"+30.0 ({30 - half:+.1f} to {30 + half:+.1f})"
    assert f"| other | {' | '.join([cell] * 5)} |" in text


@pytest.mark.parametrize(
    "command",
    [
        ["procedural"],
        ["turned"],
        ["fresh"],
        ["fresh-turned"],
        ["ablation"],
        ["cifar10", "--data", "some.zip"],
    ],
)
def test_the_commands_write_results_and_tables(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def pretend(configs, out, known, *, jobs):
        assert known == [{"earlier": 1}]
        return {config.name: {"config": config.as_dict()} for config in configs}

    monkeypatch.setattr(study, "run_all", pretend)
    monkeypatch.setattr(study, "as_markdown", lambda found, command: f"{command}: {len(found)}")
    path = tmp_path / "study_this.json"
    (tmp_path / "study_other.json").write_text('{"name": {"earlier": 1}}')
    result = CliRunner().invoke(study.app, [*command, "--seeds", "1", "--results", str(path)])
    assert result.exit_code == 0, result.output
    assert len(json.loads(path.read_text())) > 5
    assert "examples.mpssl.study" in path.with_suffix(".md").read_text()
