"""Every option of every solver is checked when the solver is built."""

import inspect
from functools import partial

import numpy as np
import pytest

import gradbalance as gb
from tests.numerics.test_checks import NO_NUMBERS, OUTSIDE

BOUNDED, CRMOGM = partial(gb.Bounded, gb.MGDA()), partial(gb.CRMOGM, gb.MGDA())
AVERAGED, DBGD = partial(gb.AveragedGramian, gb.MGDA()), partial(gb.DBGD, {})

NUMBERS = [
    (gb.AlignedMTL, "rank_tol", "(0, 1)"),
    (AVERAGED, "decay", "[0, 1)"),
    (BOUNDED, "ratio", "[1, inf)"),
    (gb.CAGrad, "c", "[0, inf)"),
    (gb.ConFIG, "rank_tol", "(0, 1)"),
    (CRMOGM, "momentum", "[0, 1)"),
    (DBGD, "alpha", "(0, inf)"),
    (DBGD, "beta", "(0, inf)"),
    (gb.DWA, "temperature", "(0, inf)"),
    (gb.EPO, "tol", "(0, inf)"),
    (gb.FairGrad, "alpha", "(0, inf)"),
    (gb.FairGrad, "tol", "[0, 1)"),
    (gb.FAMO, "lr", "(0, inf)"),
    (gb.FAMO, "weight_decay", "[0, inf)"),
    (gb.GradNorm, "alpha", "[0, inf)"),
    (gb.GradNorm, "lr", "(0, inf)"),
    (gb.GradVac, "beta", "(0, 1]"),
    (gb.IMTLG, "rank_tol", "(0, 1)"),
    (gb.IMTLL, "lr", "(0, inf)"),
    (gb.InverseNorm, "decay", "[0, 1)"),
    (gb.MainTask, "rate", "[0, inf)"),
    (gb.MGDA, "tol", "[0, 1)"),
    (gb.MoDo, "gamma", "(0, inf)"),
    (gb.MoDo, "rho", "[0, inf)"),
    (gb.NashMTL, "max_norm", "(0, inf)"),
    (gb.NashMTL, "tol", "[0, 1)"),
    (gb.PCD, "beta", "[0, 1)"),
    (gb.PCD, "tau", "[0, 1]"),
    (gb.ReLoBRaLo, "alpha", "[0, 1)"),
    (gb.ReLoBRaLo, "expected_rho", "(0, 1]"),
    (gb.ReLoBRaLo, "temperature", "(0, inf)"),
    (gb.SDMGrad, "lam", "[0, inf)"),
    (gb.SDMGrad, "lr", "(0, inf)"),
    (gb.SDMGrad, "momentum", "[0, 1)"),
    (gb.SoftAdapt, "beta", "(-inf, inf)"),
    (gb.SoftAdapt, "decay", "[0, 1)"),
    (gb.STCH, "mu", "(0, inf)"),
    (gb.UW, "lr", "(0, inf)"),
]
COUNTS = [
    (gb.DWA, "max_epoch_steps", 1),
    (gb.FairGrad, "max_steps", 0),
    (gb.GradVac, "seed", 0),
    (gb.Krum, "num_byzantine", 0),
    (gb.Krum, "num_selected", 1),
    (gb.MGDA, "max_steps", 0),
    (gb.NashMTL, "max_steps", 0),
    (gb.PCGrad, "seed", 0),
    (gb.ReLoBRaLo, "seed", 0),
    (gb.RLW, "seed", 0),
    (gb.SDMGrad, "num_iters", 1),
]
CHOICES = [
    (gb.AlignedMTL, "scale_mode"),
    (gb.CAGrad, "rescale"),
    (gb.GradCosine, "weighted"),
    (gb.InverseNorm, "normalization"),
    (gb.MGDA, "method"),
    (gb.MGDA, "normalization"),
    (gb.PCGrad, "reduction"),
    (gb.SoftAdapt, "loss_weighted"),
    (gb.SoftAdapt, "normalized"),
]
PER_TASK = [
    (gb.AlignedMTL, "preferences", "[0, inf)"),
    (gb.CAGrad, "preferences", "[0, inf)"),
    (gb.ConFIG, "preferences", "(0, inf)"),
    (DBGD, "preferences", "[0, inf)"),
    (gb.DualProj, "preferences", "[0, inf)"),
    (gb.EPO, "preferences", "(0, inf)"),
    (gb.FairGrad, "preferences", "(0, inf)"),
    (gb.FAMO, "min_losses", "(-inf, inf)"),
    (gb.IMTLG, "preferences", "(0, inf)"),
    (gb.MainTask, "preferences", "[0, inf)"),
    (gb.MGDA, "preferences", "(0, inf)"),
    (gb.NashMTL, "preferences", "(0, inf)"),
    (gb.SI, "preferences", "[0, inf)"),
    (gb.STCH, "preferences", "(0, inf)"),
    (gb.STCH, "reference", "(-inf, inf)"),
    (gb.Uniform, "preferences", "[0, inf)"),
    (gb.UPGrad, "preferences", "[0, inf)"),
]
MAY_BE_NONE = {(gb.MGDA, "max_steps"), (gb.NashMTL, "max_norm")}
# Methods and names of tasks, whose checks are in the tests of each solver.
ELSEWHERE = {
    *((wrapper, "solver") for wrapper in (gb.AveragedGramian, gb.Bounded, gb.CRMOGM, gb.Scaled)),
    *{(gb.Scaled, "by"), (gb.Shifted, "solver"), (gb.Shifted, "min_losses"), (gb.DBGD, "bounds")},
    *{(gb.GradCosine, "main"), (gb.MainTask, "main"), (gb.PCD, "primary")},
    *{(gb.MoDo, "batches"), (gb.SDMGrad, "batches")},
}


def class_of(make):
    return make.func if isinstance(make, partial) else make


def rows(*tables):
    cases = [row for table in tables for row in table]
    ids = [f"{class_of(make).__name__}-{option}" for make, option, *_ in cases]
    return pytest.mark.parametrize("row", cases, ids=ids)


def test_no_option_is_left_out():
    listed = {(class_of(row[0]), row[1]) for row in (*NUMBERS, *COUNTS, *CHOICES, *PER_TASK)}
    listed |= ELSEWHERE
    solvers = [getattr(gb, name) for name in gb.__all__]
    solvers = [one for one in solvers if inspect.isclass(one) and issubclass(one, gb.Solver)]
    assert listed == {
        (solver, option)
        for solver in solvers
        if not inspect.isabstract(solver)
        for option, parameter in inspect.signature(solver).parameters.items()
    }


def assert_refused(make, option, value):
    with pytest.raises(ValueError, match=f"^{option} must ") as error:
        make(**{option: value})
    assert f"found {value!r}" in str(error.value)


@rows(NUMBERS)
def test_a_number_out_of_its_interval_is_refused(row):
    make, option, interval = row
    for value in [*OUTSIDE[interval], *NO_NUMBERS]:
        if value is not None or (make, option) not in MAY_BE_NONE:
            assert_refused(make, option, value)


@rows(COUNTS)
def test_what_is_no_count_is_refused(row):
    make, option, least = row
    for value in [least - 1, least + 0.5, least + 1.0, *NO_NUMBERS]:
        if value is not None or (make, option) not in MAY_BE_NONE:
            assert_refused(make, option, value)
    make(**{option: least})
    make(**{option: np.int64(least)})


@rows(CHOICES)
def test_what_is_no_choice_is_refused(row):
    for value in ("newton", None, 0.5, ["l2"]):
        assert_refused(*row, value)


@rows(PER_TASK)
def test_what_is_not_one_number_a_task_is_refused(row):
    make, option, interval = row
    wrong = [1.0, "12", {1.0}, np.array(1.0), np.ones((2, 2)), [], {}, ["1", "2"], {"a": None}]
    wrong += [[1.0, value] for value in OUTSIDE[interval]] + [{"a": np.nan, "b": 1.0}, [True]]
    wrong += [[0.0, 0.0], {"a": 0}] if interval == "[0, inf)" else []
    for value in wrong:
        assert_refused(make, option, value)


@rows(PER_TASK)
def test_numbers_a_task_come_by_name_in_order_and_as_an_array(row):
    make, option, _ = row
    problem = gb.Problem.of(np.diag([1.0, 3.0]), losses=[5.0, 6.0], names=["a", "b"])
    weights = [
        make(**{option: given}).solve(problem).weights.tolist()
        for given in ([1, 2.0], {"b": 2.0, "a": 1.0}, np.array([1.0, 2.0]))
    ]
    assert weights[0] == weights[1] == weights[2]


def test_a_seed_of_any_kind_of_integer_is_saved_as_plain_json():
    for make in (gb.PCGrad, gb.ReLoBRaLo, gb.RLW, gb.GradVac):
        assert type(make(seed=np.int64(3)).state_dict()["seed"]) is int
