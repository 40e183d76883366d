"""Capturing the representation, and what is refused."""

import pytest
import torch

import gradbalance as gb
from tests.models import HandModel, Net


def test_passed_equals_captured():
    model, other = Net(), Net()
    captured = gb.Balancer(gb.MGDA(), gb.Representation(model.trunk)).backward(model.losses())
    z = other.trunk(other.x)
    balancer = gb.Balancer(gb.MGDA(), gb.Representation())
    passed = balancer.backward(other.losses(z), representation=z)
    assert passed.gram == pytest.approx(captured.gram)
    for first, second in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad)


def test_several_tensors_are_one_representation():
    model = HandModel()
    z = model.represent()
    parts = [z[:1] * 1.0, z[1:] * 1.0]
    losses = model.losses(torch.cat(parts))
    balancer = gb.Balancer(gb.MGDA(), gb.Representation())
    report = balancer.backward(losses, representation=parts)
    assert report.gram.tolist() == [list(row) for row in model.GRAM_Z]


def test_only_forward_passes_with_gradients_count():
    model = Net()
    balancer = gb.Balancer(gb.MGDA(), gb.Representation(model.trunk))
    for _ in range(2):
        with torch.no_grad():
            model.losses()
        with torch.inference_mode():
            model.losses()
        balancer.backward(model.losses())


def test_two_forward_passes_are_an_error_and_the_next_step_works():
    model = Net()
    balancer = gb.Balancer(gb.MGDA(), gb.Representation(model.trunk))
    model.losses()
    with pytest.raises(ValueError, match="found 2 forward passes"):
        balancer.backward(model.losses())
    assert model.trunk[0].weight.grad is None
    balancer.backward(model.losses())


def test_no_forward_pass_is_an_error():
    model = Net()
    losses = model.losses()
    with pytest.raises(ValueError, match="found none"):
        gb.Balancer(gb.MGDA(), gb.Representation(model.trunk)).backward(losses)


def test_measuring_again_and_again():
    model = Net()
    balancer = gb.Balancer(gb.MGDA(), gb.Representation(model.trunk))
    for _ in range(3):
        balancer.measure(model.losses())
    balancer.backward(model.losses())


def test_a_loss_that_does_not_depend_on_it_is_named():
    model = Net()
    balancer = gb.Balancer(gb.MGDA(), gb.Representation(model.trunk))
    losses = model.losses() | {"decay": model.heads[0].weight.square().sum()}
    with pytest.raises(ValueError, match="'decay' does not depend on the representation"):
        balancer.backward(losses)


def test_a_path_around_it_into_the_trunk_is_refused():
    model = Net()
    balancer = gb.Balancer(gb.MGDA(), gb.Representation(model.trunk))
    losses = model.losses()
    losses["task1"] = losses["task1"] + model.trunk[0].weight.square().sum()
    with pytest.raises(ValueError, match=r"'task1' reaches parameters of shapes \[\(6, 4\)\]"):
        balancer.backward(losses)


def test_a_leaf_can_be_the_representation():
    z = torch.ones(3, requires_grad=True)
    balancer = gb.Balancer(gb.MGDA(), gb.Representation())
    balancer.backward([z.sum(), (z * z).sum()], representation=z)
    assert z.grad.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("representation", "match"),
    [
        ({"z": 1}, "a tensor, or a sequence or mapping"),
        ([1, 2], "a tensor, or a sequence or mapping"),
        (torch.ones(2), "does not require gradients"),
    ],
)
def test_what_is_no_representation(representation, match):
    model = Net()
    balancer = gb.Balancer(gb.MGDA(), gb.Representation())
    with pytest.raises(ValueError, match=match):
        balancer.backward(model.losses(), representation=representation)


def test_it_is_refused_by_other_sources():
    model = Net()
    with pytest.raises(ValueError, match=r"for a Representation\(\) source"):
        gb.Balancer(gb.MGDA()).backward(model.losses(), representation=torch.ones(1))


def test_the_source_takes_a_module():
    with pytest.raises(ValueError, match="needs a module"):
        gb.Representation(torch.ones(2))


def test_in_place_activations_after_the_capture():
    model = Net()
    balancer = gb.Balancer(gb.Uniform(), gb.Representation(model.trunk))
    z = torch.relu_(model.trunk(model.x))
    balancer.backward(model.losses(z))
    other = Net()
    sum(other.losses(torch.relu(other.trunk(other.x))).values()).backward()
    torch.testing.assert_close(model.trunk[0].weight.grad, other.trunk[0].weight.grad)


def test_it_is_passed_to_measure_as_well():
    model = Net()
    z = model.trunk(model.x)
    losses = model.losses(z)
    balancer = gb.Balancer(gb.MGDA(), gb.Representation())
    seen = balancer.measure(losses, representation=z)
    assert seen.gram == pytest.approx(balancer.backward(losses, representation=z).gram)


def test_a_step_forgets_what_it_captured():
    model = Net()
    balancer = gb.Balancer(gb.MGDA(), gb.Representation(model.trunk))
    losses = model.losses()
    balancer.backward(losses)
    with pytest.raises(ValueError, match="found none"):
        balancer.backward(losses)


def test_the_last_tasks_graph_is_freed_up_to_it():
    model = Net()
    balancer = gb.Balancer(gb.MGDA(), gb.Representation(model.trunk))
    losses = model.losses()
    balancer.backward(losses)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(losses["task2"], model.heads[2].weight)


def test_parts_without_gradients_are_left_out_of_it():
    model, other = Net(), Net()
    z = model.trunk(model.x)
    balancer = gb.Balancer(gb.MGDA(), gb.Representation())
    mixed = balancer.backward(model.losses(z), representation=[torch.ones(2), z])
    z = other.trunk(other.x)
    plain = gb.Balancer(gb.MGDA(), gb.Representation()).backward(other.losses(z), representation=z)
    assert mixed.gram.tolist() == plain.gram.tolist()


def test_a_trunk_with_several_outputs():
    class Trunk(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 3)

        def forward(self, x):
            return self.first(x), self.second(x)

    trunk = Trunk()
    balancer = gb.Balancer(gb.Uniform(), gb.Representation(trunk))
    first, second = trunk(torch.ones(1, 2))
    report = balancer.backward([first.sum() + second.sum(), 2 * second.sum()])
    assert report.gram.tolist() == [[5.0, 6.0], [6.0, 12.0]]
    assert trunk.second.bias.grad.tolist() == [3.0] * 3
    for part in (trunk.first, trunk.second):  # each is behind one of the outputs
        first, second = trunk(torch.ones(1, 2))
        around = first.sum() + second.sum() + part.weight.sum()
        with pytest.raises(ValueError, match="and around it"):
            balancer.backward([around, second.sum()])


class Output(dict):
    """What a model of Hugging Face returns is a mapping of much that the heads do not take."""


def test_a_mapping_is_a_representation_by_what_the_losses_reach():
    model, other = Net(), Net()
    plain = gb.Balancer(gb.MGDA(), gb.Representation()).backward(
        model.losses(z := model.trunk(model.x)), representation=z
    )
    z = other.trunk(other.x)
    output = Output(
        last=z, pooled=z.mean(0), cache=object(), none=None, states=(other.x, (2 * z, z))
    )
    balancer = gb.Balancer(gb.MGDA(), gb.Representation())
    report = balancer.backward(other.losses(z), representation=output)
    assert report.gram.tolist() == plain.gram.tolist()
    for first, second in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad)


@pytest.mark.parametrize("kind", [tuple, lambda pair: {"last": pair[0], "pooled": pair[1]}])
def test_losses_that_start_from_tensors_of_one_chain_are_refused(kind):
    """Their gradients would look orthogonal, whatever they are."""
    model = Net()
    z = model.trunk(model.x)
    pooled = torch.tanh(z)
    losses = {"a": z.square().sum(), "b": pooled.sum()}
    balancer = gb.Balancer(gb.MGDA(), gb.Representation())
    names = r"(output\[0\]|last)", r"(output\[1\]|pooled)"
    match = rf"start from \['{names[0]}', '{names[1]}'\].*{names[1]} is computed from {names[0]}.*"
    with pytest.raises(ValueError, match=match):
        balancer.backward(losses, representation=kind((z, pooled)))
    balancer.backward(losses, representation=z)


def test_a_chain_is_told_by_its_own_links():
    model = Net()
    a = model.trunk(model.x)
    b = model.trunk(2 * model.x)
    c = torch.tanh(b)
    losses = {"a": a.sum(), "b": b.sum() + a.sum(), "c": c.sum()}
    with pytest.raises(ValueError, match=r"'c'.*, and c is computed from b"):
        gb.Balancer(gb.MGDA(), gb.Representation()).backward(
            losses, representation={"a": a, "b": b, "c": c}
        )


def test_what_a_recurrent_trunk_returns_is_a_representation():
    torch.manual_seed(0)
    trunk, heads = torch.nn.LSTM(3, 4), [torch.nn.Linear(4, 1) for _ in range(2)]
    balancer = gb.Balancer(gb.MGDA(), gb.Representation(trunk))
    output, _ = trunk(torch.randn(5, 2, 3))
    report = balancer.backward([head(output).square().mean() for head in heads])
    assert report.gram.shape == (2, 2)


@pytest.mark.parametrize("before", [None, 5.0])
def test_a_retained_gradient_is_that_of_the_step(before):
    model = HandModel()
    z = model.represent()
    z.retain_grad()
    z.grad = None if before is None else torch.full_like(z, before)
    losses = list(model.losses(z).values())
    balancer = gb.Balancer(gb.MGDA(), gb.Representation(), every=2)
    balancer.measure(losses, representation=z)
    assert z.grad is None if before is None else torch.equal(z.grad, torch.full_like(z, before))
    rows = torch.stack([torch.autograd.grad(loss, z, retain_graph=True)[0] for loss in losses])
    for _ in range(2):  # solved, then reused
        z.grad = None
        report = balancer.backward(losses, representation=z, retain_graph=True)
        weights = torch.tensor(report.weights, dtype=z.dtype)
        torch.testing.assert_close(z.grad, torch.tensordot(weights, rows, 1))


@pytest.mark.parametrize("passes", [1, 2])
def test_tasks_with_samples_of_their_own_are_told_that_nothing_is_compared(passes):
    torch.manual_seed(0)
    trunk, heads = torch.nn.Linear(3, 2), [torch.nn.Linear(2, 1) for _ in range(2)]
    xs = torch.randn(2, 4, 3)

    def represent():  # one pass for the samples of both tasks, or one each
        return trunk(xs) if passes == 1 else [trunk(x) for x in xs]

    def losses(z):
        return {
            t: head(z[i]).square().mean() for i, t, head in zip((0, 1), "ab", heads, strict=True)
        }

    z = represent()
    with pytest.warns(UserWarning, match=r"'a' and 'b' meet in no entry.*SharedParameters"):
        found = gb.Balancer(gb.MGDA(), gb.Representation()).measure(losses(z), representation=z)
    assert found.cosines[0, 1] == 0.0
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, trunk.parameters())])
        for loss in losses([trunk(x) for x in xs]).values()
    ]
    cosine = torch.nn.functional.cosine_similarity(*rows, dim=0).item()
    for source in (gb.SharedParameters(trunk), gb.SharedParameters(trunk, measure=trunk)):
        report = gb.Balancer(gb.MGDA(), source).measure(losses(represent()))
        assert report.cosines[0, 1] == pytest.approx(cosine, abs=1e-6)
