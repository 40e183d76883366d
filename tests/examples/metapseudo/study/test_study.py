"""The studies: which runs they are made of, their tables, and the command."""

import json
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from examples.common import processes
from examples.common.data.image_set import ImageSet
from examples.common.only_one import only_one
from examples.metapseudo.config import RunConfig
from examples.metapseudo.data.load import Labelled
from examples.metapseudo.generators.adversarial import AdversarialGenerator
from examples.metapseudo.generators.generator import frozen
from examples.metapseudo.generators.source import Source
from examples.metapseudo.run import runs
from examples.metapseudo.run.runs import run
from examples.metapseudo.study import __main__ as command
from examples.metapseudo.study import plan
from examples.metapseudo.study.__main__ import app
from examples.metapseudo.study.find_only import find_only
from examples.metapseudo.study.summary import as_markdown, of_latents


def result(variant: str, seed: int, accuracy: float, labels: int = 4) -> dict[str, Any]:
    config = {
        "variant": variant,
        "labels_per_class": labels,
        "seed": seed,
        "num_steps": 10,
        "map_steps": 20,
    }
    return {"config": config, "evaluations": [{"step": 10, "accuracy": accuracy}], "latents": []}


def test_the_study_of_accuracy_has_many_seeds_at_few_labels() -> None:
    configs = list(plan.accuracy(3, 2))
    assert len(configs) == len({config.name for config in configs}) == 9 * (2 * 3 + 2 * 2)
    assert {(c.labels_per_class, c.seed) for c in configs} == {
        *((labels, seed) for labels in (1, 4) for seed in range(3)),
        *((labels, seed) for labels in (16, 64) for seed in range(2)),
    }
    assert {config.threads for config in configs} == {1}


def test_the_other_studies_have_no_run_twice_and_share_what_is_the_same() -> None:
    known = {config.name: config for config in plan.accuracy(2, 0)}
    for planned in (plan.latents(2), plan.validation(2), plan.generators(2)):
        configs = {config.name: config for config in planned}
        assert {config.labels_per_class for config in configs.values()} == {4}
        for name in configs.keys() & known.keys():
            assert configs[name] == known[name], "one folder serves all studies"
        known |= configs
    assert {"mean-mlp-4-0", "mmd-affine-4-1", "paper-4-0", "both-balanced-4-0"} <= set(known)
    assert known["consistency-gap-autoencoder-4-0"].generator == "autoencoder"
    assert known["moments-mlp-4-0"].gap == "moments"


def test_the_study_of_photographs_is_of_both_generators() -> None:
    configs = list(plan.photographs(2, "images.zip"))
    assert len(configs) == len({config.name for config in configs}) == 10 * 2 * 2
    assert {config.data for config in configs} == {"images.zip"}
    assert {config.labels_per_class for config in configs} == {4, 64}
    for config in configs:
        blurred = config.variant.endswith("-autoencoder")
        assert ("autoencoder" in config.generator) == blurred
    assert "p-ssl" in {config.variant for config in configs}


def test_differences_are_paired_by_seed() -> None:
    found = [
        *(result("consistency-random", seed, value) for seed, value in enumerate((0.5, 0.7, 0.6))),
        *(result("consistency-gap", seed, value) for seed, value in enumerate((0.6, 0.9, 0.5))),
        result("labels", 0, 0.5),
    ]
    lines = as_markdown(found, "the command").splitlines()
    assert lines[:3] == ["```", "the command", "```"]
    assert "| labels | 50.0 |" in lines
    # Differences of 10, 20 and -10 points; 4.303 is Student's at two degrees of freedom.
    half = 4.3027 * (700 / 3) ** 0.5 / 3**0.5
    expected = f"+6.7 ({20 / 3 - half:+.1f} to {20 / 3 + half:+.1f}), 2 of 3"
    assert lines[-1] == f"| consistency-gap − consistency-random | {expected} |"
    assert "difference" not in as_markdown(found[:1], "the command")


def test_the_table_of_latents_is_of_gaps_and_maps() -> None:
    found = []
    for seed, (start, end) in enumerate(((0.02, 0.5), (0.04, 0.7))):
        for name, value in (("mmd-affine", end), ("mean-mlp", start)):
            run_ = result(name, seed, 0.0)
            run_["latents"] = [{"target_like": start}, {"target_like": value}]
            found.append(run_)
    lines = of_latents(found, "the command").splitlines()
    assert "after 20 steps of the map, mean ± sd of 2 seeds" in lines[4]
    assert lines[-6:] == [
        "| gap | mlp map | affine map |",
        "| --- | ---: | ---: |",
        "| none (random latents) | 3.0 ± 1.4 | 3.0 ± 1.4 |",
        "| mean | 3.0 ± 1.4 | – |",
        "| moments | – | – |",
        "| mmd | – | 60.0 ± 14.1 |",
    ]


def in_this_process(jobs: int, mp_context: object) -> Executor:
    return ThreadPoolExecutor(jobs)


def made_up(config: RunConfig, out: Path) -> dict[str, Any]:
    judged = {"step": 1, "accuracy": 0.25, "gap": 0.5, "target_like": 0.125}
    return {"config": config.as_dict(), "evaluations": [judged, judged], "latents": [judged]}


@pytest.mark.parametrize("name", ["accuracy", "latents", "validation", "generators", "photographs"])
def test_the_command_writes_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    done = []

    def do_all(do: object, configs: list[RunConfig], out: Path) -> dict[str, Any]:
        done.append(do)
        return {config.name: made_up(config, out) for config in configs}

    generator = frozen(AdversarialGenerator(("a", "b"), latent_size=2, width=2))
    monkeypatch.setattr(
        command, "load_source", lambda file: Source(generator=generator, classifier=None)
    )
    images = torch.zeros(12, 3, 32, 32, dtype=torch.uint8)
    unreadable = ImageSet(images=images, labels={}, classes={}, unreadable=("bad.png: no image",))
    real = Labelled(images=images, labels=torch.arange(12) % 2, classes=("a", "b"))
    monkeypatch.setattr(command, "load_source_images", lambda data: real)
    monkeypatch.setattr(command, "load_files", lambda data: (unreadable,))
    monkeypatch.setattr(runs, "_do_all", do_all)
    monkeypatch.setattr(processes, "ProcessPoolExecutor", in_this_process)
    folders = ["--out", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    answer = CliRunner().invoke(app, [name, "--seeds", "2", "--jobs", "1", *folders])
    assert answer.exit_code == 0, answer.output
    assert len(done) > 1
    for do in done:
        if name == "latents":
            assert do is find_only
        else:
            assert isinstance(do, partial)
            assert (do.func, do.keywords) == (run, {"num_parts": 1})
    drawn = {f"{name}.png"} if name in ("accuracy", "photographs") else set()
    drawn |= {"photographs_samples.png"} if name == "photographs" else set()
    files = {f"{name}.json", f"{name}.md"} | drawn
    assert {file.name for file in (tmp_path / "results").iterdir()} == files
    found = json.loads((tmp_path / "results" / f"{name}.json").read_text())
    assert all(len(line["evaluations"]) == 1 for line in found["results"])
    text = (tmp_path / "results" / f"{name}.md").read_text()
    assert "python -m examples.metapseudo.study" in text
    assert ("bad.png: no image" in answer.output) == (name == "photographs")
    assert "| 12.5 ± 0.0" in text


def test_a_generator_that_is_not_there_is_answered_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(processes, "ProcessPoolExecutor", in_this_process)
    only = [c for c in plan.generators(1) if c.variant == "consistency-random-autoencoder"]
    monkeypatch.setattr(plan, "generators", lambda seeds: only)
    answer = CliRunner().invoke(app, ["generators", "--out", "runs", "--results", "results"])
    assert answer.exit_code == 2
    assert "train_source" in answer.output
    assert "Traceback" not in answer.output


def test_images_that_are_not_there_are_answered_in_words(tmp_path: Path) -> None:
    folders = ["--out", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    answer = CliRunner().invoke(app, ["photographs", "--data", "nowhere.zip", *folders])
    assert answer.exit_code == 2
    assert "nowhere.zip" in answer.output
    assert not list(tmp_path.iterdir())


def test_two_studies_at_once_do_not_share_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "run_all", None)  # who calls it fails
    arguments = ["accuracy", "--out", str(tmp_path), "--results", str(tmp_path / "results")]
    with only_one(tmp_path):
        answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 2
    assert "another command is at work in" in answer.output
    assert not list(tmp_path.iterdir())
