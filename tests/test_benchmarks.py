"""The benchmark's measures tell right from wrong, and its script runs, so that neither can rot."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import gradbalance as gb
from benchmarks import accuracy, promises, readme_loop, timing
from benchmarks.accuracy import Answer
from benchmarks.memory import peak_bytes

JAC = np.random.default_rng(0).standard_normal((4, 12)) * np.array([[1e-2], [1.0], [1.0], [1e2]])


def answer_of(solver):
    return Answer.of_weights(JAC, solver.solve(gb.Problem.of(JAC @ JAC.T)).weights)


@pytest.mark.parametrize(
    ("solver", "measure"),
    [
        (gb.MGDA(), accuracy.hull_gap),
        (gb.CAGrad(), accuracy.ball_gap(0.5)),
        (gb.NashMTL(), accuracy.unequal_products(1.0)),
        (gb.FairGrad(alpha=2.0), accuracy.unequal_products(0.5)),
        (gb.AlignedMTL(), accuracy.aligned_distance),
        (gb.IMTLG(), accuracy.unequal_cosines),
        (gb.ConFIG(), accuracy.unequal_cosines),
    ],
)
def test_a_measure_tells_the_exact_answer_from_another(solver, measure):
    assert measure(JAC, answer_of(solver)) < 1e-7
    assert measure(JAC, answer_of(gb.Uniform())) > 1e-3


def test_cosines_by_hand():
    jac = np.array([[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    cosines = accuracy.cosines(jac, Answer.of_weights(jac, np.array([-1.5, 1.0, 1.0])))
    assert cosines == pytest.approx([-(0.5**0.5), 0.5**0.5, 0.0])


def test_projection_by_hand():
    # (g_1 + g_2)/2 = (−.5, .5) conflicts with g_1 = (1, 0); the nearest that does not is (0, .5).
    jac = np.array([[1.0, 0.0], [-2.0, 1.0]])
    exact = Answer.of_direction(np.array([0.0, 0.5]))
    assert accuracy.projected_mean(jac, exact) == pytest.approx(0.0, abs=1e-15)


def test_failures_are_counted_and_not_timed():
    found = timing.compare([lambda: None] * 2, [lambda: None, lambda: 1 / 0], 0.0, least=4)
    assert (found.num_pairs, found.num_failed) == (4, 2)
    assert found.ratio is not None


def run(tmp_path, script, *options):
    """Run a benchmark's script; what it wrote as JSON and as Markdown."""
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", f"benchmarks.{script}", *options, "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / f"{script}.md").read_text()
    return json.loads((tmp_path / f"{script}.json").read_text()), text


def test_the_benchmark_of_solvers_runs(tmp_path):
    data, text = run(tmp_path, "solvers", "--quick")
    assert {line["package"] for line in data["accuracy"]} >= {"gradbalance"}
    assert "| gradients | tasks |" in text


def test_the_benchmark_of_small_steps_runs(tmp_path):
    data, text = run(tmp_path, "small_steps", "--turns", "1", "--tasks", "2")
    assert data["found"]["pinn/2"]["MGDA, named"]["over_plain"]["median"] > 0
    assert "| MGDA, representation |" in text


def test_the_benchmark_of_combinations_runs(tmp_path):
    data, text = run(tmp_path, "combination", "--turns", "1", "--tasks", "2")
    assert data["found"]["2"]["ratio"]["median"] > 0
    assert "| tasks | float32, ms |" in text


@pytest.mark.long
def test_the_benchmark_of_the_example_runs(tmp_path):
    data, text = run(tmp_path, "mpssl", "--turns", "1")
    assert data["steps"]["MGDA, shared"]["over_plain"]["median"] > 0
    assert 0 < data["data_share"]["median"] < 1
    assert "| MGDA, representation |" in text


@pytest.mark.long
def test_the_benchmark_of_the_second_example_runs(tmp_path):
    data, text = run(tmp_path, "metapseudo", "--turns", "1")
    assert data["steps"]["labelled"]["over_labelled"]["median"] == 1
    assert data["steps"]["meta"]["over_labelled"]["median"] > 0
    assert "| meta, finite difference |" in text


@pytest.mark.long
def test_the_benchmark_of_steps_runs(tmp_path):
    options = ["--turns", "1", "--families", "transformer", "--tasks", "2"]
    data, text = run(tmp_path, "step_cost", *options)
    found = data["found"]["transformer/2"]
    assert found["plain"]["peak_over_plain"] == 1
    assert found["shared"]["over_floor"]["median"] > 0
    assert "## transformer: time over the floor" in text
    assert (tmp_path / "step_cost.png").stat().st_size > 10_000


@pytest.mark.long
def test_the_benchmark_of_sketches_runs(tmp_path):
    data, text = run(tmp_path, "sketch_error", "--families", "transformer", "--steps", "1")
    by_size = data["found"]["transformer, random init"]
    medians = [np.median(found["cosine"]) for found in by_size.values()]
    assert medians[0] > medians[-1]
    assert "| transformer, trained | 65536 |" in text


@pytest.mark.long
def test_the_benchmark_of_ranks_runs(tmp_path):
    options = ["--ranks", "2", "--tasks", "2", "--steps", "1"]
    data, text = run(tmp_path, "scaling", *options)
    found = data["found"]["2"]
    assert found["shared/2"]["bytes"] > 1.5 * found["plain/2"]["bytes"]
    assert "| 2 | 2 | plain |" in text


def test_the_benchmark_of_promises_runs(tmp_path):
    data, text = run(tmp_path, "promises", "--draws", "4", "--only", "MGDA")
    assert data["found"]["MGDA"]["float32"]["num_broken"] == 0
    assert "| MGDA | autocast to bfloat16 |" in text


def test_the_readmes_loop_is_run_as_it_stands_and_with_other_solvers():
    assert (
        readme_loop.code("UPGrad, scale='norm' (README)", 10).replace("'", '"')
        in readme_loop.README.read_text()
    )
    for method in (readme_loop.SUM, *readme_loop.METHODS):
        found = readme_loop.final_losses(method, 2, seed=0)
        assert set(found) == {"depth", "seg"}
    assert "balancer(losses)" not in readme_loop.code(readme_loop.SUM, 10)
    # From the same weights, on the same samples: where nothing conflicts UPGrad is the sum.
    ours = readme_loop.final_losses("UPGrad, scale='norm' (README)", 5, seed=1)
    assert ours == pytest.approx(readme_loop.final_losses("sum", 5, seed=1), rel=1e-4)


def test_the_docs_have_the_promises_that_were_measured():
    root = Path(__file__).parents[1]
    lines = promises.in_short(json.loads((root / "benchmarks/promises.json").read_text()))
    page = (root / "docs/notation.md").read_text()
    assert [line for line in lines if line not in page] == []


def test_peak_memory_is_exact():
    def call():
        one = torch.zeros(1000, 1000)
        two = one + 1
        del one
        return two + 1

    assert 8_000_000 <= peak_bytes(call) < 8_001_000
