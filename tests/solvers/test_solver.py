"""What all solvers share: problems built by hand, and how a solver prints."""

import numpy as np
import pytest

import gradbalance as gb


def test_losses_default_to_ones_and_names_to_numbers():
    problem = gb.Problem.of(np.eye(3))
    assert problem.losses.tolist() == [1.0, 1.0, 1.0]
    assert problem.names == problem.tasks == ("0", "1", "2")


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
