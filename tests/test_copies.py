"""A resumed, copied or moved run equals the uninterrupted one; unused objects are freed."""

import copy
import gc
import io
import pickle
import weakref

import pytest
import torch
from torch import nn

import gradbalance as gb
from gradbalance.state import decode, encode
from tests.models import Net, grads


class Model(Net):
    """A model that holds its balancer, as the docs advise."""

    def __init__(self, solver, source, **options):
        super().__init__()
        self.balancer = gb.Balancer(solver, source(self), **options)


SOURCES = {
    "found": lambda model: gb.SharedParameters(),
    "named": lambda model: gb.SharedParameters(model.trunk),
    "parameters": lambda model: gb.SharedParameters(list(model.trunk.parameters())),
    "measured": lambda model: gb.SharedParameters(model.trunk, measure=model.trunk[-1]),
    "sketched": lambda model: gb.SharedParameters(model.trunk, sketch=50),
    "representation": lambda model: gb.Representation(model.trunk),
    "losses": lambda model: gb.LossesOnly(),
}
sources = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "saved": lambda model: torch.load(saved(model), weights_only=False),
}
copies = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())


def saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return file


def solver_of(source):
    return gb.UW() if source is SOURCES["losses"] else gb.GradNorm()


@sources
@copies
@pytest.mark.parametrize("when", ["fresh", "trained", "between forward and backward"])
def test_a_copy_goes_on_as_the_original(source, copied, when):
    model = Model(solver_of(source), source)
    losses = None
    if when != "fresh":
        model.balancer(model.losses()).backward()
    if when == "between forward and backward":
        losses = model.losses()
    other = copied(model)
    model.zero_grad(), other.zero_grad()
    model.balancer(losses or model.losses()).backward()
    other.balancer(other.losses()).backward()
    for name, gradient in grads(model).items():
        torch.testing.assert_close(grads(other)[name], gradient)
    assert torch.equal(model.balancer.get_extra_state(), other.balancer.get_extra_state())


@copies
def test_a_copy_knows_what_its_own_model_shares(copied):
    names = ["task0", "task1", "task2"]
    model = Model(gb.MGDA(), SOURCES["found"], tasks=names)
    model.balancer(model.losses()).backward()
    other = copied(model)
    reports = []
    for net in (model, other):
        net.zero_grad()
        losses = net.losses()
        del losses["task1"]
        net.balancer(losses).backward()
        reports.append(net.balancer.report)
    assert reports[1].gram[0, 0] == pytest.approx(reports[0].gram[0, 0])
    for name, gradient in grads(model).items():
        if gradient is not None:
            torch.testing.assert_close(grads(other)[name], gradient)


@pytest.mark.long
def test_no_parameter_is_listed_twice_after_many_copies():
    model = Model(gb.MGDA(), SOURCES["found"])
    model.balancer(model.losses()).backward()
    for _ in range(20):  # ids of what is gone are used again
        model = copy.deepcopy(model)
        gc.collect()
        model.zero_grad()
        model.balancer(model.losses()).backward()
    plain = Net()
    gb.Balancer(gb.MGDA(), gb.SharedParameters(plain.trunk)).backward(plain.losses())
    for name, gradient in grads(plain).items():
        torch.testing.assert_close(grads(model)[name], gradient)


@pytest.mark.parametrize("source", [SOURCES["found"], SOURCES["losses"]])
def test_a_balancer_keeps_no_model_alive(source):
    balancer = gb.Balancer(solver_of(source), source(None))
    alive = []
    for _ in range(5):
        model = Net()
        balancer(model.losses()).backward()
        alive.append(weakref.ref(model.trunk[0].weight))
        del model
    gc.collect()
    assert [kept() for kept in alive if kept() is not None] == []


def test_measuring_and_refused_steps_find_nothing():
    model = Net()
    names = list(model.losses())
    balancer = gb.Balancer(gb.MGDA(), tasks=names)
    balancer.measure(model.losses())
    with pytest.raises(ValueError, match="not finite"):
        balancer.backward({n: x * torch.nan for n, x in model.losses().items()})
    losses = model.losses()
    del losses["task1"]
    with pytest.raises(ValueError, match="at a step that lacks tasks"):
        balancer.backward(losses)
    balancer.backward(model.losses())
    losses = model.losses()
    del losses["task1"]
    balancer.backward(losses)


def resumed_of(balancer, **options):
    other = gb.Balancer(gb.MGDA(), **options)
    other.load_state_dict(balancer.state_dict())
    return other


def test_a_resumed_run_refuses_what_it_cannot_know():
    model = Net()
    names = list(model.losses())
    balancer = gb.Balancer(gb.MGDA(), tasks=names)
    balancer.backward(model.losses())
    resumed = resumed_of(balancer, tasks=names)
    losses = model.losses()
    del losses["task1"]
    with pytest.raises(ValueError, match="Name it"):
        resumed.backward(losses)
    resumed.backward(model.losses())
    losses = model.losses()
    del losses["task1"]
    resumed.backward(losses)
    balancer.load_state_dict(resumed.state_dict())  # in the same process nothing is forgotten
    losses = model.losses()
    del losses["task1"]
    balancer.backward(losses)


def test_a_resumed_run_refuses_a_first_step_that_shares_less():
    model = Net()
    balancer = gb.Balancer(gb.MGDA())
    balancer.backward(model.losses())
    resumed = resumed_of(balancer)
    z = model.trunk(model.x)
    losses = model.losses(z)
    losses["task1"] = losses["task1"].detach() + model.heads[1].weight.sum()
    losses["task2"] = losses["task2"].detach() + model.heads[1].weight.square().sum()
    with pytest.raises(ValueError, match="the saved run shared parameters that only one task"):
        resumed.backward(losses)
    resumed.backward(model.losses())


def test_a_loaded_state_drops_micro_batches():
    model = Net()
    balancer = gb.Balancer(gb.MGDA())
    state = balancer.state_dict()
    balancer.accumulate(model.losses())
    balancer.load_state_dict(state)
    report = balancer.backward(model.losses())
    assert report.gram == pytest.approx(gb.Balancer(gb.MGDA()).measure(model.losses()).gram)


def test_a_representation_that_is_closed_or_gone_listens_no_more():
    trunk = nn.Linear(2, 2)
    source = gb.Representation(trunk)
    z = trunk(torch.ones(1, 2))
    alive = weakref.ref(z)
    source.close()
    source.close()
    del z
    assert alive() is None
    assert not trunk._forward_hooks
    balancer = gb.Balancer(gb.MGDA(), gb.Representation(trunk))
    assert len(trunk._forward_hooks) == 1
    del balancer
    gc.collect()
    assert not trunk._forward_hooks


def test_what_was_captured_goes_with_the_step():
    trunk = nn.Linear(2, 2)
    balancer = gb.Balancer(gb.MGDA(), gb.Representation(trunk))
    z = trunk(torch.ones(1, 2))
    alive = weakref.ref(z)
    balancer([z.sum(), z.square().sum()]).backward()
    del z
    gc.collect()
    assert alive() is None


# The state as a tensor.


def trained(**options):
    model = Net()
    balancer = gb.Balancer(gb.GradNorm(), **options)
    for _ in range(3):
        balancer(model.losses()).backward()
    return balancer


@pytest.mark.parametrize("options", [{}, {"tasks": ["task0", "task1", "task2"]}])
def test_its_length_is_that_of_the_configuration(options):
    fresh = gb.Balancer(gb.GradNorm(), **options).get_extra_state()
    state = trained(**options).get_extra_state()
    assert fresh.dtype == state.dtype == torch.uint8
    assert fresh.shape == state.shape
    assert len(state) == (1 << 16 if not options else len(state))
    assert len(state) <= 1 << 16


def test_every_call_gives_a_fresh_tensor():
    balancer = trained()
    state = balancer.get_extra_state()
    state.zero_()
    assert balancer.get_extra_state().any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_it_is_read_from_any_dtype(dtype):
    balancer, other = trained(), gb.Balancer(gb.GradNorm())
    other.set_extra_state(balancer.get_extra_state().to(dtype))
    assert torch.equal(other.get_extra_state(), balancer.get_extra_state())


def test_an_average_of_the_same_states_is_the_state_and_of_others_an_error():
    one, other = trained().get_extra_state().float(), trained().get_extra_state().float()
    balancer = gb.Balancer(gb.GradNorm())
    balancer.set_extra_state((one + other) / 2)
    fresh = gb.Balancer(gb.GradNorm()).get_extra_state().float()
    before = balancer.get_extra_state()
    for mixed in ((one + fresh) / 2, torch.round((one + fresh) / 2)):
        with pytest.raises(ValueError, match=r"Drop the key that ends in '_extra_state'"):
            balancer.set_extra_state(mixed)
    assert torch.equal(balancer.get_extra_state(), before)


def test_a_state_that_is_too_large_names_the_option():
    with pytest.raises(ValueError, match=r"Balancer\(\.\.\., tasks=\[\.\.\.\]\)"):
        encode({"much": "x" * 1000}, 500)


def test_many_tasks_fit_where_they_are_named():
    names = [f"a task with a rather long name, number {i}" for i in range(60)]
    x = torch.ones(60, requires_grad=True)
    for solver in (gb.GradVac(), gb.GradNorm(), gb.FAMO(), gb.CRMOGM(gb.UW()), gb.DWA()):
        balancer = gb.Balancer(solver, tasks=names)
        balancer({name: 1 + x[i] ** 2 * (i + 0.1) for i, name in enumerate(names)}).backward()
        assert balancer.get_extra_state().shape == balancer.get_extra_state().shape


DAMAGES = {
    "weights missing": lambda s: s["memory"].pop("weights"),
    "a weight that is no number": lambda s: s["memory"]["weights"][0].update(task0="x"),
    "weights of no group": lambda s: s["memory"].update(weights=[]),
    "a negative count": lambda s: s["memory"].update(num_reused=-1),
    "no solver": lambda s: s.pop("solver"),
    "no tasks": lambda s: s.pop("tasks"),
    "a source's shapes": lambda s: s.update(source={"shapes": {"2": "x"}}),
    "the solver's state": lambda s: s["memory"].update(solvers=[{"nonsense": 1}]),
    "too few solvers": lambda s: s["memory"].update(solvers=[]),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_state_changes_nothing(damage):
    state = decode(trained().get_extra_state())
    damage(state)
    balancer = trained()
    before = balancer.get_extra_state()
    with pytest.raises(ValueError, match=r"state|weights|shapes|solver"):
        balancer.set_extra_state(encode(state, 1 << 16))
    assert torch.equal(balancer.get_extra_state(), before)


def test_what_takes_every_entry_for_a_tensor_works():
    model = Model(gb.GradNorm(), SOURCES["named"])
    model.balancer(model.losses()).backward()
    moved = {name: value.cpu().clone() for name, value in model.state_dict().items()}
    assert sum(value.numel() for value in moved.values()) > 0
    average = torch.optim.swa_utils.AveragedModel(model)
    average.update_parameters(model)
    other = Model(gb.GradNorm(), SOURCES["named"])
    other.load_state_dict(moved)
    assert torch.equal(other.balancer.get_extra_state(), model.balancer.get_extra_state())
