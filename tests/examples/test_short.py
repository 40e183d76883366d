"""The short scripts run, print what they should, and can be read and pasted."""

import ast
import importlib
import re
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from examples import short

FOLDER = Path(short.__file__).parent
SCRIPTS = sorted(file.stem for file in FOLDER.glob("*.py") if file.stem != "__init__")
NUMBER = r"-?[\d.]+"

# For each what it needs, what makes it short, and what it prints.
RUNS: dict[str, tuple[tuple[str, ...], dict[str, Any], list[str]]] = {
    "mpssl_minimal": (
        (),
        {"NUM_STEPS": 4},
        [
            rf"nearest of 30 images, before: {NUMBER} %",
            "step 2, MGDA: converged",
            "step 4, MGDA: converged",
            rf"rotation +{NUMBER} +{NUMBER}",
            rf"solarization +{NUMBER} +{NUMBER}",
            rf"nearest of 30 images, after: {NUMBER} %",
        ],
    ),
    "pinn_minimal": (
        (),
        {"NUM_STEPS": 5, "SEEDS": (0, 1)},
        [
            "after 5 steps",
            rf"plain sum +{NUMBER} % +{NUMBER} %\n",
            rf"UPGrad +{NUMBER} % +{NUMBER} %\n",
        ],
    ),
    "supervised": (
        (),
        {"NUM_STEPS": 5},
        [
            "kind told +force explained +shift explained",
            *(rf"{name} +{NUMBER} % +{NUMBER} % +{NUMBER} %" for name in ("Uniform", "NashMTL")),
        ],
    ),
    "gradnorm_last_layer": (
        (),
        {"NUM_STEPS": 60},
        [
            r"Uniform: weights of small, large\n +step +0: 1.00, 1.00\n +step +20: 1.00, 1.00",
            r"GradNorm: weights of small, large\n +step +0: 1.00, 1.00\n +step +20: 1.\d+, 0.\d+",
            rf"left of the losses: small {NUMBER} %, large {NUMBER} %",
        ],
    ),
    "custom_solver": (
        (),
        {},
        [
            r"\[0.75 1.5 \]",
            "it does what it claims",
            r"EqualShares\(\) fails 'descends'",
            "EqualShares: converged",
            rf"near +{NUMBER} ",
            rf"far +{NUMBER} ",
        ],
    ),
    "with_lightning": (
        ("lightning",),
        {"NUM_EPOCHS": 1},
        [
            rf"{task}: loss {NUMBER} -> {NUMBER}, last weight {NUMBER}"
            for task in ("depth", "normals")
        ],
    ),
    "with_accelerate": (
        ("accelerate",),
        {"NUM_EPOCHS": 1},
        [
            rf"{task}: loss {NUMBER} -> {NUMBER}, last weight {NUMBER}"
            for task in ("depth", "normals")
        ],
    ),
    "with_trainer_lora": (
        ("transformers", "peft"),
        {"NUM_STEPS": 3},
        [
            "trainable params: 6,342",
            "UPGrad: converged",
            rf"topic +{NUMBER} ",
            rf"tone +{NUMBER} ",
        ],
    ),
}
QUIET = [
    pytest.mark.filterwarnings("ignore::FutureWarning:lightning"),
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:torch.distributed is (disabled|unavailable)"),
]


def script(name: str) -> ModuleType:
    for package in RUNS[name][0]:
        pytest.importorskip(package, reason="pip install '.[integrations]'")
    return importlib.import_module(f"examples.short.{name}")


def printed(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What a script prints; the seeds that it sets are forgotten."""
    module = script(name)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    capsys.readouterr()
    with torch.random.fork_rng():
        module.main()
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.integrations, *QUIET] if RUNS[name][0] else [])
        for name in RUNS
    ],
)
def test_it_prints_what_it_should(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    module = script(name)
    for constant, value in RUNS[name][1].items():
        assert getattr(module, constant) != value
        monkeypatch.setattr(module, constant, value)
    found = printed(name, monkeypatch, capsys)
    for pattern in RUNS[name][2]:
        assert re.search(pattern, found), (pattern, found)
    assert len(found.splitlines()) <= 25
    assert not list(tmp_path.iterdir()), "it leaves nothing behind"


def percents(text: str) -> list[float]:
    return [float(number) for number in re.findall(rf"({NUMBER}) %", text)]


@pytest.mark.long
def test_in_full_they_show_what_they_are_made_to_show(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = percents(printed("mpssl_minimal", monkeypatch, capsys))
    assert after > before + 10
    plain, balanced = printed("pinn_minimal", monkeypatch, capsys).splitlines()[1:]
    assert min(percents(plain)) > 3 * max(percents(balanced))
    uniform, nash = map(percents, printed("supervised", monkeypatch, capsys).splitlines()[1:])
    assert nash[0] > uniform[0] + 10, "of the kinds"
    assert nash[2] > uniform[2] + 40, "of the shifts"
    equal, equal_large, small, large = percents(printed("gradnorm_last_layer", monkeypatch, capsys))
    assert abs(small - large) < 0.5 * abs(equal - equal_large), "they train at more alike rates"


@pytest.mark.long
@pytest.mark.integrations
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["with_lightning", "with_accelerate"])
def test_in_full_the_losses_fall(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = re.findall(rf"loss ({NUMBER}) -> ({NUMBER})", printed(name, monkeypatch, capsys))
    assert len(found) == 2
    assert all(float(after) < 0.1 * float(before) for before, after in found)


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_is_short_says_its_command_and_stands_alone(name: str) -> None:
    text = (FOLDER / f"{name}.py").read_text()
    assert 40 <= len(text.splitlines()) <= 100
    tree = ast.parse(text)
    assert f"python -m examples.short.{name}" in (ast.get_docstring(tree) or "")
    imported = [
        alias.name if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    assert not [module for module in imported if module.partition(".")[0] == "examples"]


def test_run_as_files_they_hide_no_package() -> None:
    elsewhere = [path for path in sys.path if path != str(FOLDER)]
    for name in SCRIPTS:
        assert name not in sys.stdlib_module_names
        assert PathFinder.find_spec(name, elsewhere) is None, name


def test_every_script_is_run_here() -> None:
    assert set(RUNS) == set(SCRIPTS)
