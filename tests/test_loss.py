"""`balancer(losses)`: a scalar whose backward is the balanced step, whatever calls it."""

import gc
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch._functorch import config as functorch_config

import gradbalance as gb
from gradbalance.gradients import autograd
from tests.models import Net, grads
from tests.test_balancer import SOURCES

ALL_SOURCES = {**SOURCES, "found": lambda model: gb.SharedParameters()}
STEPS = [
    *((solver, name) for solver in ("MGDA", "PCGrad", "GradNorm") for name in ALL_SOURCES),
    ("UW", "losses"),
    ("Uniform", "losses"),
]
steps = pytest.mark.parametrize(("solver", "source"), STEPS)


def balancer_of(model, solver, source, **options):
    kind = gb.LossesOnly() if source == "losses" else ALL_SOURCES[source](model)
    return gb.Balancer(getattr(gb, solver)(), kind, **options)


def by_hand(model, balancer, report):
    """Each parameter's gradient from the reported weights and plain autograd."""
    names = [name for name, _ in model.named_parameters()]
    rows = [
        torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)
        for loss in model.losses().values()
    ]
    total = {}
    for name, *parts in zip(names, *rows, strict=True):
        raw = name.startswith("heads") and balancer.options.heads == "raw"
        terms = [
            g if raw else w * g
            for w, g in zip(report.weights.tolist(), parts, strict=True)
            if g is not None
        ]
        total[name] = sum(terms[1:], terms[0])
    return total


def assert_grads(model, expected, factor=1.0):
    for name, gradient in grads(model).items():
        torch.testing.assert_close(gradient, factor * expected[name])


@steps
@pytest.mark.parametrize("every", [1, 2])
def test_it_is_the_step_by_hand(solver, source, every):
    model = Net()
    balancer = balancer_of(model, solver, source, every=every)
    for _ in range(3):
        model.zero_grad()
        losses = model.losses()
        loss = balancer(losses)
        assert loss.item() == pytest.approx(sum(x.item() for x in losses.values()))
        loss.backward()
        assert_grads(model, by_hand(Net(), balancer, balancer.report))


@steps
@pytest.mark.parametrize("factor", [0.25, -3.0, 2.0**16])
def test_what_comes_from_above_is_a_factor(solver, source, factor):
    model, plain = Net(), Net()
    balancer, reference = (balancer_of(m, solver, source) for m in (model, plain))
    (factor * balancer(model.losses())).backward()
    expected = reference.backward(plain.losses())
    assert balancer.report.weights == pytest.approx(expected.weights)
    if expected.gram is not None:
        assert balancer.report.gram == pytest.approx(expected.gram)
    assert_grads(model, grads(plain), factor)


@steps
def test_a_factor_of_zero_writes_zeros_and_teaches_nothing(solver, source):
    model = Net()
    balancer = balancer_of(model, solver, source, tasks=list(model.losses()))
    before = balancer.get_extra_state()
    (0.0 * balancer(model.losses())).backward()
    assert balancer.report.status is gb.Status.SKIPPED
    assert torch.equal(balancer.get_extra_state(), before)
    assert all(not p.grad.any() for p in model.parameters())


@steps
def test_a_factor_that_is_not_finite_is_an_overflow(solver, source):
    model = Net()
    balancer = balancer_of(model, solver, source, tasks=list(model.losses()))
    before = balancer.get_extra_state()
    (float("inf") * balancer(model.losses())).backward()
    assert balancer.report.status is gb.Status.SKIPPED
    assert torch.equal(balancer.get_extra_state(), before)
    assert not all(p.grad.isfinite().all() for p in model.parameters())


@steps
def test_autograd_grad_returns_the_same_directions(solver, source):
    model, plain = Net(), Net()
    loss = balancer_of(model, solver, source)(model.losses())
    found = torch.autograd.grad(loss, list(model.parameters()))
    balancer_of(plain, solver, source).backward(plain.losses())
    for one, parameter in zip(found, plain.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad)
    assert set(grads(model).values()) == {None}


@steps
def test_micro_batches_that_are_divided_add_up(solver, source):
    model, plain = Net(), Net()
    balancer, reference = (balancer_of(m, solver, source) for m in (model, plain))
    for _ in range(4):
        (balancer(model.losses()) / 4).backward()
    total = None
    for _ in range(4):
        plain.zero_grad()
        reference.backward(plain.losses())
        found = grads(plain)
        total = found if total is None else {n: total[n] + g for n, g in found.items()}
    assert_grads(model, total, 0.25)


@steps
def test_under_autocast(solver, source):
    model, plain = Net(dtype=torch.float32), Net(dtype=torch.float32)
    for net in (model, plain):
        balancer = balancer_of(net, solver, source)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = balancer(net.losses())
            if net is model:
                loss.backward()
        if net is plain:
            loss.backward()
    assert_grads(model, grads(plain))


def test_without_grad_mode_it_is_the_sum_and_no_more():
    model = Net()
    balancer = gb.Balancer(gb.PCGrad())
    before = balancer.get_extra_state()
    with torch.no_grad():
        loss = balancer(model.losses())
    assert not loss.requires_grad
    assert loss.item() == pytest.approx(sum(x.item() for x in model.losses().values()))
    assert torch.equal(balancer.get_extra_state(), before)
    assert balancer.tasks is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_its_value_is_in_float32_at_least(dtype):
    x = torch.tensor([300.0, 200.0], dtype=dtype, requires_grad=True)
    loss = gb.Balancer(gb.Uniform())([x[0] * 200, x[1] * 300])
    assert loss.dtype == torch.promote_types(dtype, torch.float32)
    assert loss.item() == pytest.approx(120_000, rel=0.01)


def test_its_value_leaves_out_what_is_not_finite_where_such_tasks_are_skipped():
    x = torch.ones(1, requires_grad=True)
    losses = [x.sum(), x.sum() * torch.nan]
    assert gb.Balancer(gb.MGDA(), nonfinite="skip")(losses).item() == 1.0
    assert np.isnan(gb.Balancer(gb.MGDA())(losses).item())


def test_the_report_and_the_state_change_in_the_backward():
    model = Net()
    balancer = gb.Balancer(gb.PCGrad())
    loss = balancer(model.losses())
    with pytest.raises(ValueError, match="no step was taken yet"):
        _ = balancer.report
    assert balancer.solver.state_dict()["num_steps"] == 0
    loss.backward()
    assert balancer.solver.state_dict()["num_steps"] == 1
    assert balancer.report.names == tuple(model.losses())


@steps
def test_a_second_backward_is_torchs_own_error(solver, source):
    model = Net()
    balancer = balancer_of(model, solver, source)
    loss = balancer(model.losses())
    loss.backward()
    state, before = balancer.get_extra_state(), grads(model)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()
    assert torch.equal(balancer.get_extra_state(), state)
    assert_grads(model, before)


@steps
def test_the_graph_is_kept_where_the_outer_backward_keeps_it(solver, source):
    model = Net()
    loss = balancer_of(model, solver, source)(model.losses())
    loss.backward(retain_graph=True)
    loss.backward()


@steps
def test_a_term_on_the_same_graph(solver, source):
    model, plain = Net(), Net()
    for net, added in ((model, True), (plain, False)):
        balancer = balancer_of(net, solver, source)
        z = net.trunk(net.x)
        loss = balancer(net.losses(z), retain_graph=True)
        term = z.square().sum()
        if added:
            (loss + term).backward()
        else:
            loss.backward(retain_graph=True)
            term.backward()
    assert_grads(model, grads(plain))


@pytest.mark.parametrize("first", [True, False])
def test_a_term_on_a_graph_that_is_not_kept_says_what_to_do(first):
    model = Net()
    z = model.trunk(model.x)
    term = z.square().sum() if first else None
    balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters(model.trunk))
    loss = balancer(model.losses(z))
    total = loss + (term if first else z.square().sum())
    with pytest.raises((RuntimeError, ValueError), match="retain_graph=True"):
        total.backward()
    assert set(grads(model.heads).values()) == {None}


def test_two_balancers_on_one_graph():
    model, plain = Net(), Net()
    losses, copies = model.losses(), plain.losses()
    names = list(losses)
    first, second = (gb.Balancer(gb.MGDA(), gb.SharedParameters(model.trunk)) for _ in range(2))
    parts = [{n: losses[n] for n in names[:2]}, {n: losses[n] for n in names[1:]}]
    (first(parts[0], retain_graph=True) + second(parts[1], retain_graph=True)).backward()
    for part in ([copies[n] for n in names[:2]], [copies[n] for n in names[1:]]):
        balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters(plain.trunk))
        balancer.backward(part, retain_graph=True)
    assert_grads(model, grads(plain))


@steps
def test_the_losses_can_be_used_again_where_the_graph_is_kept(solver, source):
    model, plain = Net(), Net()
    for net in (model, plain):
        balancer = balancer_of(net, solver, source)
        losses = net.losses()
        # Behind a representation it is the outer backward that keeps the graph.
        outer = source == "representation"
        balancer(losses, retain_graph=net is model).backward(retain_graph=outer)
        if net is model:
            net.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
    plain.zero_grad()
    sum(plain.losses().values()).backward()
    assert_grads(model, grads(plain))


class Broken(torch.autograd.Function):
    """Its backward makes NaN of any gradient, zeros included."""

    @staticmethod
    def forward(ctx, x):
        return x * torch.nan

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.nan


@pytest.mark.parametrize(("solver", "source"), [("UW", "losses"), ("GradNorm", "measured")])
def test_a_task_that_is_left_out_leaves_nothing_behind(solver, source):
    model, plain = Net(), Net()
    names = list(model.losses())
    for net in (model, plain):
        balancer = balancer_of(net, solver, source, nonfinite="skip", tasks=names)
        losses = net.losses()
        losses["task1"] = Broken.apply(losses["task1"]) if net is model else None
        balancer(losses).backward()
    for name, gradient in grads(plain).items():
        if gradient is not None:
            torch.testing.assert_close(grads(model)[name], gradient)
    broken = {name: Broken.apply(x) for name, x in model.losses().items()}
    model.zero_grad()
    assert balancer_of(model, solver, source, nonfinite="skip").backward(broken).status is None
    assert set(grads(model).values()) == {None}


@steps
def test_differentiating_twice_is_refused(solver, source):
    model = Net()
    balancer = balancer_of(model, solver, source)
    with pytest.raises(RuntimeError, match=r"balancer\.hold\(\)"):
        torch.autograd.grad(balancer(model.losses()), list(model.parameters()), create_graph=True)


class Kept(torch.autograd.Function):
    """Keeps a tensor for the backward, as every operation with parameters does."""

    kept: list = []  # noqa: RUF012

    @staticmethod
    def forward(ctx, x):
        copy = x.clone()
        ctx.save_for_backward(copy)
        Kept.kept.append(weakref.ref(copy))
        return x * 1.0

    @staticmethod
    def backward(ctx, gradient):
        return gradient + 0 * ctx.saved_tensors[0]


@pytest.mark.parametrize(("solver", "source"), [step for step in STEPS if step[1] != "together"])
def test_as_many_activations_live_on_as_after_a_plain_backward(solver, source, monkeypatch):
    monkeypatch.setattr(autograd, "_WORTH_FREEING", 0)  # as if they were large
    model = Net()
    Kept.kept.clear()
    z = Kept.apply(model.trunk(model.x))
    balancer = balancer_of(model, solver, source)
    losses = [
        Kept.apply(Kept.apply(head(z)) - y).square().mean()
        for head, y in zip(model.heads, model.y, strict=True)
    ]
    if source == "representation":
        balancer = gb.Balancer(getattr(gb, solver)(), gb.Representation())
        loss = balancer(losses, representation=z)
    else:
        loss = balancer(losses)
    assert sum(kept() is not None for kept in Kept.kept) == 7
    del z
    loss.backward()
    gc.collect()
    assert [kept() for kept in Kept.kept if kept() is not None] == []
    assert loss.requires_grad
    assert len(losses) == 3


def test_a_large_shared_part_is_freed_where_the_last_task_does_not_reach_it():
    Kept.kept.clear()
    trunk, scale = nn.Linear(4, 4096), nn.Parameter(torch.ones(()))
    z = Kept.apply(trunk(torch.randn(128, 4)))  # two megabytes
    losses = [z.square().mean(), (z - 1).square().mean(), scale.square()]
    gb.Balancer(gb.MGDA(), gb.SharedParameters(trunk)).backward(losses)
    del z
    gc.collect()
    assert [kept() for kept in Kept.kept if kept() is not None] == []
    assert len(losses) == 3


def test_what_skips_over_a_shared_layer_lives_on_and_is_right():
    model = Net()
    for net in (model,):
        z = net.trunk[0](net.x)
        y = net.trunk[2](torch.tanh(z))
        losses = [(z[:, :5] * y).sum(), (z[:, 1:] * y).square().sum()]
        balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters(net.trunk))
        report = balancer.measure(losses)
        balancer(losses).backward()
        assert balancer.report.gram == pytest.approx(report.gram, rel=1e-12)


def test_hooks_between_the_tasks_own_part_and_the_shared_one_act_once():
    model, plain = Net(), Net()
    for net in (model, plain):
        z = net.trunk(net.x)
        z.register_hook(lambda gradient: -3 * gradient)
        losses = net.losses(z)
        balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters(net.trunk))
        if net is model:
            balancer(losses).backward()
        else:
            balancer(losses, retain_graph=True).backward()  # not in two parts
    assert_grads(model, grads(plain))


@pytest.mark.parametrize("source", ["rows", "measured", "representation", "losses"])
def test_a_closure_with_held_weights_minimises_their_sum(source):
    model = Net()
    solver = "GradNorm" if source != "losses" else "UW"
    balancer = balancer_of(model, solver, source)
    optimizer = torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe", max_iter=20)
    with torch.no_grad():
        before = sum(x.item() for x in model.losses().values())
    values = []

    def closure():
        optimizer.zero_grad()
        loss = balancer(model.losses())
        values.append(loss.item())
        loss.backward()
        return loss

    for _ in range(5):
        report = balancer.backward(model.losses())
        state = balancer.get_extra_state()
        with balancer.hold():
            losses = model.losses()
            weighted = sum(w * x for w, x in zip(report.weights, losses.values(), strict=True))
            assert balancer(losses).item() == pytest.approx(weighted.item())
            optimizer.step(closure)
        assert balancer.report is report
        assert torch.equal(balancer.get_extra_state(), state)
    assert values[-1] < 0.2 * before


def test_held_weights_can_be_differentiated_twice():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    balancer = gb.Balancer(gb.Uniform())
    balancer.backward([(x**3).sum(), x.sum()])
    with balancer.hold():
        loss = balancer([(x**3).sum(), x.sum()])
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert second.tolist() == [6.0, 12.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_held_losses_keep_their_precision(dtype):
    x = torch.tensor([1.0 + 2.0**-40, 2.0], dtype=dtype, requires_grad=True)
    balancer = gb.Balancer(gb.Uniform())
    balancer.backward([x[0], x[1]])
    with balancer.hold():
        loss = balancer([x[0], x[1]])
    assert loss.dtype == torch.promote_types(dtype, torch.float32)
    assert loss.item() == x[0].item() + 2.0


def test_there_must_be_weights_to_hold():
    model = Net()
    balancer = gb.Balancer(gb.MGDA())
    with pytest.raises(ValueError, match="no weights to hold"), balancer.hold():
        pass
    grouped = gb.Balancer(
        gb.MGDA(), gb.SharedParameters({"first": model.trunk[0], "last": model.trunk[2]})
    )
    grouped.backward(model.losses())
    with pytest.raises(ValueError, match="each group of parameters has its own"), grouped.hold():
        pass


OPTIONS = ["solver", "source", "heads", "scale", "zero_gradients", "nonfinite", "every",
           "distributed", "tasks"]  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_options_are_read_only(option):
    balancer = gb.Balancer(gb.MGDA())
    with pytest.raises(AttributeError, match=f"{option} is fixed when a Balancer is built"):
        setattr(balancer, option, "norm")


def test_its_text_names_solver_source_and_options():
    text = repr(gb.Balancer(gb.UPGrad(), gb.Representation(), scale="norm", every=3))
    assert "UPGrad(" in text
    assert "Representation()" in text
    assert "scale='norm', every=3" in text
    assert "heads=" not in text


def test_the_solvers_of_groups_advance_and_are_reachable():
    model = Net()
    source = gb.SharedParameters({"first": model.trunk[0], "last": model.trunk[2]})
    balancer = gb.Balancer(gb.PCGrad(), source)
    balancer(model.losses()).backward()
    assert [s.state_dict()["num_steps"] for s in balancer.solvers.values()] == [1, 1]
    assert list(balancer.solvers) == ["first", "last"]
    with pytest.raises(ValueError, match=r"balancer\.solvers\[group\]"):
        _ = balancer.solver
    assert gb.Balancer(gb.MGDA()).solvers == {}


def test_a_balancer_wants_after_step_where_its_solver_does():
    model = Net()
    assert not gb.Balancer(gb.CRMOGM(gb.MGDA())).wants_after_step
    balancer = gb.Balancer(gb.CRMOGM(gb.FAMO()), every=2)
    balancer(model.losses()).backward()
    assert balancer.wants_after_step
    balancer.after_step(model.losses())
    balancer(model.losses()).backward()  # weights that are reused
    assert not balancer.wants_after_step


class Module(nn.Module):
    """What a training step that is compiled as a whole calls."""

    def __init__(self, solver, source):
        super().__init__()
        self.net = Net(dtype=torch.float32)
        self.balancer = balancer_of(self.net, solver, source)

    def step(self):
        self.net.zero_grad()
        loss = self.balancer(self.net.losses())
        loss.backward()
        return loss


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize(
    ("solver", "source"),
    [("UW", "losses"), ("GradNorm", "measured"), ("MGDA", "rows"), ("MGDA", "representation")],
)
def test_a_compiled_training_step_breaks_the_graph_at_the_balancer(solver, source, backend):
    compiled, plain = Module(solver, source), Module(solver, source)
    torch._dynamo.reset()
    with functorch_config.patch(donated_buffer=False):
        step = torch.compile(compiled.step, backend=backend)
        for _ in range(2):
            step()
            plain.step()
    assert compiled.balancer.report.weights == pytest.approx(plain.balancer.report.weights, 1e-4)
    for name, gradient in grads(plain.net).items():
        torch.testing.assert_close(grads(compiled.net)[name], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_graph_that_was_compiled_for_one_backward_says_what_to_set():
    model = Net(dtype=torch.float32)
    trunk = torch.compile(model.trunk, backend="aot_eager")
    sum(model.losses(trunk(model.x)).values()).backward()  # a plain step, as a warm-up is
    balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters(model.trunk))
    with pytest.raises(ValueError, match=r"donated_buffer = False before it is compiled"):
        balancer(model.losses(trunk(model.x))).backward()
