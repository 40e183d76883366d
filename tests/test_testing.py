"""`gradbalance.testing` catches what it is there to catch, and says where."""

import math
import random
from typing import final

import numpy as np
import pytest
import torch

import gradbalance as gb
from gradbalance.gradients.graph_gradients import GraphGradients
from gradbalance.testing import check_solver, check_source
from tests.test_balancer import SOURCES

FEW = {"families": ["iid", "spread_iid"], "num_tasks": [2, 3], "num_draws": 2}


class Honest(gb.Solver):
    """Weights 1/T, and a count of each task's steps; what is wrong is below."""

    needs = "losses"
    weighs = "losses"

    def __init__(self):
        self._counts = {}

    def solve(self, problem):
        return gb.Solution(self.weights(problem))

    def weights(self, problem):
        return np.full(len(problem.names), 1 / len(problem.names))

    def update(self, problem, solution):
        self._counts |= {name: self._counts.get(name, 0) + 1 for name in problem.names}

    def state_dict(self):
        return {"counts": dict(self._counts)}

    def load_state_dict(self, state):
        self._counts = gb.solvers.state.checked_state(self, state, {"counts": {str: int}})["counts"]


@final
class NaNs(Honest):
    def weights(self, problem):
        return problem.losses if len(problem.names) < 3 else np.full(3, np.nan)


@final
class OneWeight(Honest):
    def weights(self, problem):
        return np.ones(1)


@final
class Float32(Honest):
    def weights(self, problem):
        return problem.losses.astype(np.float32)


@final
class Remembers(Honest):
    def weights(self, problem):
        self._counts |= dict.fromkeys(problem.names, 7)
        return super().weights(problem)


@final
class WarmStart(Honest):
    def __init__(self):
        super().__init__()
        self._last = 0.0

    def weights(self, problem):
        last, self._last = self._last, problem.losses.sum()
        return problem.losses + last


@final
class WritesLosses(Honest):
    def weights(self, problem):
        problem.losses[:] = 1.0
        return super().weights(problem)


@final
class Reads(Honest):
    def weights(self, problem):
        return np.diagonal(problem.gramian).copy()


@final
class BadNeeds(Honest):
    needs = "everything"


@final
class NumpyGlobal(Honest):
    def weights(self, problem):
        return np.random.uniform(1, 1 + 0 * problem.losses)  # noqa: NPY002


@final
class TorchSeeds(Honest):
    def weights(self, problem):
        torch.manual_seed(len(problem.names))
        return torch.rand(len(problem.names)).double().numpy()


@final
class Entropy(Honest):
    def __init__(self):
        super().__init__()
        self._shift = random.SystemRandom().random()

    def weights(self, problem):
        return problem.losses + self._shift


@final
class FirstCounts(Honest):
    def weights(self, problem):
        return problem.losses * [2.0, *[1.0] * (len(problem.names) - 1)]


@final
class NoJSON(Honest):
    def state_dict(self):
        return {"counts": {name: (count,) for name, count in self._counts.items()}}

    def load_state_dict(self, state):
        self._counts = {name: count for name, (count,) in state["counts"].items()}


@final
class Forgets(Honest):
    def weights(self, problem):
        return 1.0 + np.array([self._counts.get(name, 0) for name in problem.names]) / 7

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self._counts = {}


@final
class SharesState(Honest):
    def state_dict(self):
        return {"counts": self._counts}


@final
class Swallows(Honest):
    def load_state_dict(self, state):
        self._counts = dict((state or {}).get("counts", {})) if isinstance(state, dict) else {}


@final
class HalfLoads(Honest):
    def load_state_dict(self, state):
        self._counts = {"half": 1}
        super().load_state_dict(state)


@final
class DropsAbsent(Honest):
    def update(self, problem, solution):
        super().update(problem, solution)
        self._counts = {name: self._counts[name] for name in problem.names}


@final
class NoPickle(Honest):
    def __init__(self):
        super().__init__()
        self._rule = lambda x: x


@final
class CountsToThree(Honest):
    def solve(self, problem):
        if min(self._counts.values(), default=0) > 2:
            raise IndexError("there is no fourth step")
        return super().solve(problem)


@final
class OnlyDigits(Honest):
    def weights(self, problem):
        assert "task0" not in problem.names, "a name that it does not know"
        return super().weights(problem)


def test_a_solver_that_is_right_passes():
    check_solver(Honest, equivariant=math.inf, scale_exponent=0.0, **FEW)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (NaNs, r"'finite' on draw_problem\('iid', 3, seed=0\)"),
        (OneWeight, r"'finite' on draw_problem\('iid', 2, seed=0\)"),
        (Float32, "'finite'"),
        (Remembers, "'pure' .*solve changed the state"),
        (WarmStart, "'pure' .*solved again"),
        (WritesLosses, "'pure' .*solve changed the losses"),
        (Reads, "'reads_what_it_needs' .*needs the Gramian"),
        (BadNeeds, "'reads_what_it_needs' .*needs is 'everything'"),
        (NumpyGlobal, "'deterministic' .*a global generator"),
        (TorchSeeds, "'deterministic' .*a global generator"),
        (Entropy, "'deterministic' .*one run gave"),
        (NoJSON, "'resumes' .*not plain JSON"),
        (Forgets, "'resumes'"),
        (SharesState, "'resumes' .*a state changes after it was saved"),
        (NoPickle, "'resumes' .*it cannot be pickled"),
        (Swallows, "'refuses_damaged_states' .*was accepted"),
        (HalfLoads, "'refuses_damaged_states' .*changed the state"),
        (DropsAbsent, "'absent_tasks_keep_their_state' .*was lost"),
        (CountsToThree, r"on draw_run\(seed=0\): IndexError"),
        (OnlyDigits, "'trains'"),
    ],
)
def test_a_solver_that_is_broken_is_caught(make, named):
    with pytest.raises(AssertionError, match=f"(?s)^{make.__name__}.* fails .*{named}"):
        check_solver(make, **FEW)


@pytest.mark.parametrize(
    ("make", "claims", "named"),
    [
        (gb.Uniform, {"descends": 2}, "descends"),
        (lambda: gb.MGDA(max_steps=1), {"certified": True}, "certified"),
        (gb.Uniform, {"certified": True}, "certified"),
        (FirstCounts, {"equivariant": 2}, "equivariant"),
        (gb.NashMTL, {"scale_exponent": 0.0}, "scales"),
        (gb.PCGrad, {"rests": True}, "rests"),
        (gb.Uniform, {"ignores_duplicates": True}, "ignores_duplicates"),
    ],
)
def test_a_claim_that_does_not_hold_is_caught(make, claims, named):
    with pytest.raises(AssertionError, match=f"(?s) fails '{named}'( on draw_problem|: )"):
        check_solver(make, **claims, **FEW | {"num_tasks": [2, 8], "num_draws": 5})


# What is measured, how exactly, and the sources that are passed a representation.
OVER = {
    "measured": {"over": lambda net, z: list(net.trunk[-1].parameters())},
    "sketched": {"rtol": 0.5},
    "representation": {"over": lambda net, z: [z]},
    "passed": {"over": lambda net, z: [z], "passes_representation": True},
}


@pytest.mark.parametrize(
    ("name", "make"),
    {
        **SOURCES,
        "found": lambda net: gb.SharedParameters(),
        "passed": lambda net: gb.Representation(),
        "losses": lambda net: gb.LossesOnly(),
        "groups": lambda net: gb.SharedParameters({"low": net.trunk[0], "high": net.trunk[2]}),
    }.items(),
)
def test_sources_agree_with_autograd(name, make):
    check_source(make, **OVER.get(name, {}))


BREAKS = {
    "the Gramian is": ("grams", lambda grams: [None if g is None else 2 * g for g in grams]),
    ".grad changed by": ("directions", lambda ends: [e if e is None else 2 * e for e in ends]),
}


@pytest.mark.parametrize("named", BREAKS)
def test_gradients_that_are_broken_are_caught(named, monkeypatch):
    method, spoil = BREAKS[named]
    right = getattr(GraphGradients, method)
    monkeypatch.setattr(GraphGradients, method, lambda *a, **k: spoil(right(*a, **k)))
    with pytest.raises(AssertionError, match=f"heads='raw', loss scale 1.0, absent None.*{named}"):
        check_source(lambda net: gb.SharedParameters(net.trunk))


@pytest.mark.parametrize(
    ("method", "broken", "named"),
    [
        ("state_dict", lambda self: {"shared": (1,)}, "no JSON"),
        ("load_state_dict", lambda self, state: None, "the state that was loaded is another"),
    ],
)
def test_states_of_sources_that_are_broken_are_caught(method, broken, named, monkeypatch):
    monkeypatch.setattr(gb.SharedParameters, method, broken)
    with pytest.raises(AssertionError, match=named):
        check_source(lambda net: gb.SharedParameters())


def test_a_measure_that_writes_is_caught(monkeypatch):
    right = gb.SharedParameters.open

    def spoil(self, losses, request):
        if request.retain_graph:
            sum(losses.values()).backward(retain_graph=True)
        return right(self, losses, request)

    monkeypatch.setattr(gb.SharedParameters, "open", spoil)
    with pytest.raises(AssertionError, match=r"measure wrote to .grad"):
        check_source(lambda net: gb.SharedParameters(net.trunk))
