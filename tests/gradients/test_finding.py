"""What the tasks share is found from the graph, or an error says to name it."""

import pytest
import torch
from torch import nn

import gradbalance as gb
from tests.models import Net


def gramian_of(model, source=None, losses=None):
    return gb.Balancer(gb.MGDA(), source).measure(losses or model.losses()).gram


def test_found_equals_named():
    model = Net()
    assert gramian_of(model) == pytest.approx(gramian_of(model, gb.SharedParameters(model.trunk)))


def test_a_shared_parameter_stays_shared_while_tasks_are_absent():
    model = Net()
    source = gb.SharedParameters()
    balancer = gb.Balancer(gb.MGDA(), source)
    full = balancer.backward(model.losses())
    alone = balancer.backward({"task1": model.losses()["task1"]})
    assert alone.norms[1] == pytest.approx(full.norms[1])


def test_what_two_tasks_share_stays_shared_while_one_of_them_is_absent():
    trunk, pair = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))

    def losses():
        return [(trunk + pair).sum(), (trunk + 3 * pair).sum(), 2 * trunk.sum()]

    balancer = gb.Balancer(gb.MGDA())
    full = balancer.backward(losses())
    assert full.norms[1] == pytest.approx(20**0.5)
    without = balancer.backward([None, *losses()[1:]])
    assert without.norms[1] == pytest.approx(full.norms[1])


def test_with_one_task_all_its_parameters_count():
    model = Net(num_tasks=1)
    report = gb.Balancer(gb.MGDA()).backward(model.losses())
    total = sum(p.grad.square().sum() for p in model.parameters()).sqrt()
    assert report.norms[0] == pytest.approx(total.item())
    assert report.weights.tolist() == [1.0]


def test_a_first_step_that_lacks_tasks_is_refused():
    model = Net()
    balancer = gb.Balancer(gb.MGDA(), tasks=["task0", "task1", "task2"])
    with pytest.raises(ValueError, match=r"at a step that lacks tasks.*Name it"):
        balancer.backward({"task0": model.losses()["task0"]})
    assert all(p.grad is None for p in model.parameters())
    report = balancer.backward(model.losses())
    assert report.gram == pytest.approx(gramian_of(Net()))


def test_a_task_apart_can_be_the_only_one_present():
    model = Net()
    apart = torch.nn.Parameter(torch.ones(2))
    balancer = gb.Balancer(gb.MGDA())
    balancer.backward(model.losses() | {"apart": apart.sum()})
    assert apart.grad.tolist() == [1.0, 1.0]  # as a head
    report = balancer.backward({"apart": apart.sum()})
    assert apart.grad.tolist() == [2.0, 2.0]
    assert report.norms[3] == pytest.approx(2**0.5)


def test_losses_that_share_nothing():
    a, b = (torch.ones(1, requires_grad=True) for _ in range(2))
    with pytest.raises(ValueError, match="share no parameter"):
        gb.Balancer(gb.MGDA()).backward([a.sum(), b.sum()])
    assert a.grad is None


def test_named_parameters_that_no_loss_reaches():
    model = Net()
    source = gb.SharedParameters(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="no loss reaches"):
        gb.Balancer(gb.MGDA(), source).backward(model.losses())


def test_measure_must_be_shared():
    model = Net()
    source = gb.SharedParameters(model.trunk, measure=model.heads[0])
    with pytest.raises(ValueError, match="measure must be parameters that the tasks share"):
        gb.Balancer(gb.MGDA(), source).backward(model.losses())


def test_frozen_parameters_are_left_out_of_what_is_measured():
    model = Net()
    model.trunk[-1].bias.requires_grad_(False)
    module = gb.SharedParameters(model.trunk, measure=model.trunk[-1])
    weight = gb.SharedParameters(model.trunk, measure=model.trunk[-1].weight)
    assert gramian_of(model, module) == pytest.approx(gramian_of(model, weight))
    model.trunk[-1].requires_grad_(False)
    with pytest.raises(ValueError, match=r"require gradients; found none"):
        gramian_of(model, module)


def test_parameters_that_are_given_twice_count_once():
    model = Net()
    twice = [model.trunk, model.trunk[0].weight, model.trunk[-1]]
    once = gramian_of(model, gb.SharedParameters(model.trunk))
    assert gramian_of(model, gb.SharedParameters(twice)) == pytest.approx(once)
    measured = gb.SharedParameters(model.trunk, measure=twice)
    assert gramian_of(model, measured) == pytest.approx(once)


@pytest.mark.parametrize("given", [[], "trunk", torch.nn.Tanh(), [None]])
def test_what_is_no_parameter_is_refused(given):
    with pytest.raises(ValueError, match="must be a module or parameters"):
        gb.SharedParameters(given)


@pytest.mark.parametrize(
    "cut",
    [
        lambda losses: torch.stack(losses),
        lambda losses: list(torch.stack(losses)),
        lambda losses: list((2 * torch.stack(losses)).unbind()),
        lambda losses: [part.squeeze() for part in torch.stack(losses).split(1)],
    ],
    ids=["tensor", "select", "unbind", "split"],
)
def test_losses_cut_from_one_tensor(cut):
    model = Net()
    losses = cut(list(model.losses().values()))
    with pytest.raises(ValueError, match=r"cut from one tensor.*SharedParameters\(model\.trunk\)"):
        gb.Balancer(gb.MGDA()).backward(losses)
    named = gb.Balancer(gb.MGDA(), gb.SharedParameters(model.trunk)).measure(losses)
    scale = 4.0 if named.losses[0] > 1.5 * model.losses()["task0"].item() else 1.0
    assert named.gram == pytest.approx(scale * gramian_of(model))


def test_losses_on_entries_of_one_output_are_not_hidden():
    linear = torch.nn.Linear(3, 2)
    y = linear(torch.ones(4, 3))
    report = gb.Balancer(gb.MGDA()).backward([y[:, 0].square().mean(), y[:, 1].square().mean()])
    assert report.gram[0, 1] == 0.0


def test_a_ddp_sink_hides():
    # DDP with find_unused_parameters passes all outputs through one node of this name.
    class _DDPSink(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *outputs):
            return tuple(output.clone() for output in outputs)

        @staticmethod
        def backward(ctx, *gradients):
            return gradients

    model = Net()
    losses = list(_DDPSink.apply(*model.losses().values()))
    with pytest.raises(ValueError, match=r"DDPSink.*SharedParameters\(model\.trunk\)"):
        gb.Balancer(gb.MGDA()).backward(losses)


class Fused(torch.autograd.Function):
    """x ↦ x Aᵀ and x Bᵀ by one function, whose two inputs' parameters are not told apart."""

    @staticmethod
    def forward(ctx, x, a, b):
        ctx.save_for_backward(x, a, b)
        return x @ a.T, x @ b.T

    @staticmethod
    def backward(ctx, to_a, to_b):
        x, a, b = ctx.saved_tensors
        return to_a @ a + to_b @ b, to_a.T @ x, to_b.T @ x


class FusedInOne(torch.autograd.Function):
    """The same, with the outputs as columns of one tensor."""

    @staticmethod
    def forward(ctx, x, a, b):
        ctx.save_for_backward(x, a, b)
        return torch.cat([x @ a.T, x @ b.T], dim=1)

    @staticmethod
    def backward(ctx, to):
        return Fused.backward(ctx, to[:, : len(ctx.saved_tensors[1])], to[:, -1:])


def halves(x, a, b):
    return FusedInOne.apply(x, a, b).split(1, dim=1)


@pytest.mark.parametrize("heads", [Fused.apply, halves], ids=["two outputs", "one output"])
def test_heads_inside_a_custom_function_are_to_be_named(heads):
    trunk, a, b = nn.Linear(4, 3), *(nn.Parameter(torch.randn(1, 3)) for _ in range(2))

    def losses(heads):
        return [(y - 1).square().mean() for y in heads(trunk(torch.ones(5, 4)), a, b)]

    with pytest.raises(ValueError, match=r"inside of Fused\w* is not visible.*Name it"):
        gb.Balancer(gb.MGDA()).backward(losses(heads))
    assert a.grad is None
    eager = gramian_of(None, None, losses(lambda x, a, b: (x @ a.T, x @ b.T)))
    named = gramian_of(None, gb.SharedParameters(trunk), losses(heads))
    assert named == pytest.approx(eager)


def test_scripted_code_is_to_be_named_once_it_is_fused(recwarn):
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 1), nn.Linear(5, 1)

        def forward(self, x):
            z = torch.tanh(self.trunk(x))
            return torch.sigmoid(self.a(z)), 3 * torch.tanh(self.b(z))

    model, x = Whole(), torch.randn(8, 4)

    def losses(model):
        return [(y - 1).square().mean() for y in model(x)]

    expected = gramian_of(None, None, losses(model))
    scripted = torch.jit.script(model)
    for _ in range(3):  # the first runs are observed, then code is fused into one node
        found = losses(scripted)
    with pytest.raises(ValueError, match=r"DifferentiableGraphBackward is not visible.*Name it"):
        gramian_of(None, None, found)
    named = gramian_of(None, gb.SharedParameters(model.trunk), losses(scripted))
    assert named == pytest.approx(expected)


def test_custom_functions_in_the_trunk_or_in_one_head_hide_nothing():
    class Affine(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight):
            ctx.save_for_backward(x, weight)
            return x @ weight.T

        @staticmethod
        def backward(ctx, to):
            x, weight = ctx.saved_tensors
            return to @ weight, to.T @ x

    weights = [nn.Parameter(torch.randn(3, 3)) for _ in range(2)]
    heads = [nn.Linear(3, 1) for _ in range(2)]

    def losses(affine):
        z = affine(torch.ones(4, 3), weights[0]).tanh()
        ys = affine(z, weights[1]), z
        return [(h(y) - 1).square().mean() for h, y in zip(heads, ys, strict=True)]

    custom = gramian_of(None, None, losses(Affine.apply))
    assert custom == pytest.approx(gramian_of(None, None, losses(lambda x, w: x @ w.T)))


class Pair(nn.Module):
    """Two branches that leave one module side by side."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x, y):
        return self.a(x), self.b(y)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("roots", [False, True])
def test_backward_hooks_of_a_module_do_not_mix_its_outputs(order, roots):
    torch.manual_seed(0)
    pair, trunk, calls = Pair(), nn.Linear(3, 3), []

    def losses():
        z = trunk(torch.ones(4, 3))
        return [y.square().sum() for y in pair(z.sin(), z.exp())][::order]

    class Losses(nn.Module):
        def forward(self, *values):
            return tuple(value * 2 for value in values)

    plain = gb.Balancer(gb.MGDA()).measure([2 * loss for loss in losses()])
    pair.register_full_backward_hook(lambda *_: calls.append("hook"))
    both = Losses()
    if roots:
        both.register_full_backward_hook(lambda *_: calls.append("hook"))
    report = gb.Balancer(gb.MGDA()).backward(list(both(*losses())))
    assert report.gram == pytest.approx(plain.gram)
    raw = torch.autograd.grad(sum(both(*losses())), pair.a.weight)[0]
    torch.testing.assert_close(pair.a.weight.grad, raw)
    assert calls


def test_a_representation_may_have_backward_hooks():
    stem, trunk, heads = nn.Linear(3, 3), Pair(), [nn.Linear(2, 1) for _ in range(2)]

    def report():
        x = stem(torch.ones(4, 3))
        z = trunk(x, x)
        losses = [(h(z[0] * z[1]) - 1).square().mean() for h in heads]
        return gb.Balancer(gb.MGDA(), gb.Representation()).backward(losses, representation=z)

    plain = report()
    trunk.register_full_backward_hook(lambda *_: None)
    assert report().gram == pytest.approx(plain.gram)
