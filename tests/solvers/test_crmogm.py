import numpy as np
import pytest

import gradbalance as gb

PROBLEMS = [gb.Problem.of(np.diag([k, 1.0, 2.0]), losses=[1.0, k, 2.0]) for k in (1.0, 3.0, 9.0)]

every_wrapper = pytest.mark.parametrize("wrapper", [gb.Bounded, gb.CRMOGM])


def test_the_weights_are_averaged_over_the_steps():
    solver, method = gb.CRMOGM(gb.MGDA(), momentum=0.75), gb.MGDA()
    expected = method.solve(PROBLEMS[0]).weights
    for problem in PROBLEMS:
        expected = 0.75 * expected + 0.25 * method.solve(problem).weights
        solution = solver.solve(problem)
        assert solution.weights == pytest.approx(expected, rel=1e-14)
        solver.update(problem, solution)


def test_without_momentum_it_is_the_method():
    solver, method = gb.CRMOGM(gb.GradNorm(), momentum=0.0), gb.GradNorm()
    for problem in PROBLEMS:
        solution, expected = solver.solve(problem), method.solve(problem)
        assert solution.weights.tolist() == expected.weights.tolist()
        solver.update(problem, solution)
        method.update(problem, expected)


def test_a_task_keeps_its_weight_while_it_is_absent():
    solver = gb.CRMOGM(gb.Uniform(preferences=[1, 5]), momentum=0.5)
    both = gb.Problem.of(losses=[1.0, 1.0])
    solver.update(both, solver.solve(both))
    before = solver.state_dict()["weights"]["1"]
    alone = gb.Problem.of(losses=[1.0], names=["0"], tasks=["0", "1"])
    solver.update(alone, solver.solve(alone))
    assert solver.state_dict()["weights"]["1"] == before == 5.0


def test_hooks_reach_what_is_wrapped_and_nothing_else_listens():
    famo, dwa = gb.FAMO(), gb.DWA()
    assert list(gb.listeners(gb.CRMOGM(gb.MGDA()), gb.AfterStep)) == []
    assert list(gb.listeners(famo, gb.AfterStep)) == [famo]
    assert list(gb.listeners(gb.CRMOGM(gb.CRMOGM(famo)), gb.AfterStep)) == [famo]
    assert list(gb.listeners(gb.CRMOGM(famo), gb.EndEpoch)) == []
    assert list(gb.listeners(gb.CRMOGM(dwa), gb.EndEpoch)) == [dwa]
    assert gb.CRMOGM(dwa).wrapped == (dwa,)
    assert dwa.wrapped == ()


@every_wrapper
def test_what_is_wrapped_must_be_a_solver(wrapper):
    with pytest.raises(ValueError, match="must be a Solver"):
        wrapper(gb.MGDA)


@every_wrapper
def test_the_state_of_another_method_is_refused(wrapper):
    with pytest.raises(ValueError, match=rf"{wrapper.__name__}\(PCGrad\)"):
        wrapper(gb.MGDA()).load_state_dict(wrapper(gb.PCGrad()).state_dict())
