"""A state that is damaged anywhere is refused, and says why, before anything changes."""

import copy

import numpy as np
import pytest

import gradbalance as gb
from gradbalance.testing.properties import advance
from tests.contract.table import CONTRACTS

NAMES = ("a", "b", "c")


def advanced(make):
    """A solver in the middle of an epoch, or between a step and its outcome."""
    solver, rng = make(), np.random.default_rng(0)
    for step in range(4):
        jac = rng.standard_normal((3, 4))
        problem = gb.Problem.of(jac @ jac.T, rng.uniform(0.5, 2.0, 3), names=NAMES)
        solution = solver.solve(problem)
        if step < 3:
            advance(solver, problem, solution)
        else:
            solver.update(problem, solution)
    return solver


MAKERS = {
    "Bounded-CRMOGM-DWA": lambda: gb.Bounded(gb.CRMOGM(gb.DWA())),
    "CRMOGM-DWA": lambda: gb.CRMOGM(gb.DWA()),
    "CRMOGM-CRMOGM-GradVac": lambda: gb.CRMOGM(gb.CRMOGM(gb.GradVac())),
    "Scaled-GradVac-DWA": lambda: gb.Scaled(gb.GradVac(), by=gb.DWA()),
    **{name: row.make for name, row in CONTRACTS.items()},
}
STATEFUL = {
    name: make
    for name, make in MAKERS.items()
    if make().state_dict() != advanced(make).state_dict()
}
MAY_BE_NONE = {"last", "before_last"}

every_solver = pytest.mark.parametrize("make", STATEFUL.values(), ids=STATEFUL.keys())


def places(node, path=()):
    """Every node of a state but its root, by the keys that lead to it."""
    for key, value in node.items():
        yield (*path, key), value
        if isinstance(value, dict):
            yield from places(value, (*path, key))


def replacements(key, value):
    """What cannot stand in a place."""
    wrong = ["x", None, float("nan"), float("inf"), True, [], [1.0], {"x": {"x": "x"}}]
    if key in MAY_BE_NONE:
        wrong.remove(None)
    if isinstance(value, dict):
        wrong += [1.0, value | {"more": "x"}, value | {5: 1.0}]
        if not value.keys() & set(NAMES):  # of tasks there may be fewer
            wrong += [{k: v for k, v in value.items() if k != missing} for missing in value]
    if type(value) is int:
        wrong += [-1, 1.5]
    if key in ("square", "total"):
        wrong.append(-1.0)
    return wrong


def replaced(state, path, value):
    damaged = copy.deepcopy(state)
    node = damaged
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return damaged


@every_solver
def test_a_damaged_state_is_refused_and_changes_nothing(make):
    state, solver = advanced(make).state_dict(), make()
    before = copy.deepcopy(solver.state_dict())
    assert before != state
    damaged = [None, [], "x", 3.0, {}, state | {"more": 1.0}]
    damaged += [{k: v for k, v in state.items() if k != missing} for missing in state]
    for path, value in places(state):
        damaged += [replaced(state, path, wrong) for wrong in replacements(path[-1], value)]
    for wrong in damaged:
        with pytest.raises(ValueError, match=r"^(not a|the) state (is )?of [A-Z]"):
            solver.load_state_dict(wrong)
        assert solver.state_dict() == before
    solver.load_state_dict(state)
    assert solver.state_dict() == state


def test_a_solver_without_a_state_refuses_one():
    for found in (None, [], {"weights": {}}):
        with pytest.raises(ValueError, match="not a state of MGDA: state must"):
            gb.MGDA().load_state_dict(found)
