"""What all solvers share: problems built by hand, and how a solver prints."""

import numpy as np
import pytest
import torch

import gradbalance as gb


def test_losses_default_to_ones_and_names_to_numbers():
    problem = gb.Problem.of(np.eye(3))
    assert problem.losses.tolist() == [1.0, 1.0, 1.0]
    assert problem.names == problem.tasks == ("0", "1", "2")


@pytest.mark.parametrize("num_tasks", [2, 16, 128])
def test_a_half_precision_gramian_may_be_as_indefinite_as_its_rounding(num_tasks):
    jac = np.random.default_rng(0).uniform(1, 2, (num_tasks, 1))  # of rank 1, but for rounding
    gram = torch.from_numpy(jac @ jac.T).bfloat16()
    norms = gram.diag().double().sqrt()
    assert torch.linalg.eigvalsh(gram.double() / torch.outer(norms, norms)).min() < -1e-3
    assert gb.Problem.of(gram).gramian.dtype == np.float64
    with pytest.raises(ValueError, match="not a Gramian"):
        gb.Problem.of(gram.double())


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({}, "needs a gram or losses; found neither"),
        ({"gram": np.eye(2), "losses": [1.0]}, "must cover the same tasks"),
        ({"gram": np.eye(2), "losses": [1.0], "names": ["a", "b"]}, "must cover the same tasks"),
        ({"gram": np.eye(2), "names": ["a"], "losses": [1.0]}, "must cover the same tasks"),
        ({"losses": [[1.0, 1.0]], "names": ["a", "b"]}, "must cover the same tasks"),
        ({"gram": [[1.0, 2.0], [0.0, 1.0]]}, "symmetric"),
    ],
)
def test_a_problem_that_does_not_fit_together_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        gb.Problem.of(**arguments)


@pytest.mark.parametrize(
    ("solver", "text"),
    [
        (
            gb.MGDA(),
            "MGDA(method='active_set', normalization='none', preferences=None, tol=1e-10, "
            "max_steps=None)",
        ),
        (gb.GradNorm(), "GradNorm(alpha=1.5, lr=0.025)"),
        (gb.PCGrad(seed=3), "PCGrad(reduction='sum', seed=3)"),
    ],
    ids=["MGDA", "GradNorm", "PCGrad"],
)
def test_a_solver_prints_as_its_options(solver, text):
    assert repr(solver) == text
