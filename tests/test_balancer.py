"""The options of Balancer: forms of losses, heads, scale, missing tasks, zero and odd gradients."""

import numpy as np
import pytest
import torch

import gradbalance as gb
from tests.models import HandModel, Net, grads

SOURCES = {
    "rows": lambda model: gb.SharedParameters(model.trunk),
    "measured": lambda model: gb.SharedParameters(model.trunk, measure=model.trunk[-1]),
    "sketched": lambda model: gb.SharedParameters(model.trunk, sketch=211),
    "together": lambda model: gb.SharedParameters(model.trunk, chunk_size=2),
    "representation": lambda model: gb.Representation(model.trunk),
}
sources = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())


def mgda(model, source=None, **options):
    return gb.Balancer(gb.MGDA(), source or gb.SharedParameters(model.trunk), **options)


def test_mapping_sequence_and_tensor_agree():
    model = Net()
    losses = list(model.losses().values())
    forms = [model.losses(), losses, tuple(losses), torch.stack(losses)]
    reports = [mgda(model).measure(form) for form in forms]
    assert reports[0].names == ("task0", "task1", "task2")
    assert reports[1].names == ("0", "1", "2")
    for report in reports:
        np.testing.assert_allclose(report.weights, reports[0].weights, rtol=1e-12)


def test_losses_of_one_element_need_no_squeeze():
    model = Net()
    report = mgda(model).backward({n: loss.reshape(1, 1) for n, loss in model.losses().items()})
    assert report.weights == pytest.approx(mgda(model).measure(model.losses()).weights)


@pytest.mark.parametrize("form", ["left out", "none", "sequence"])
@sources
def test_a_missing_task_is_solved_around(source, form):
    model, other = Net(), Net()
    balancer = mgda(model, source(model), tasks=["task0", "task1", "task2"])
    alone = mgda(other, source(other))
    losses = model.losses()
    if form == "left out":
        del losses["task1"]
    else:
        losses["task1"] = None
    report = balancer.backward(list(losses.values()) if form == "sequence" else losses)
    pair = other.losses()
    del pair["task1"]
    assert report.left_out == {"task1": "absent"}
    assert report.weights[1] == 0.0
    assert np.isnan(report.losses[1])
    assert np.isnan(report.gram[1]).all()
    assert report.weights[[0, 2]] == pytest.approx(alone.measure(pair).weights)
    assert grads(model)["heads.1.weight"] is None
    assert grads(model)["heads.0.weight"] is not None


def test_a_missing_task_keeps_its_state():
    model = Net()
    balancer = gb.Balancer(gb.GradNorm(lr=0.1), gb.SharedParameters(model.trunk))
    for _ in range(3):
        balancer.backward(model.losses())
    before = balancer.solver.state_dict()["weights"]["task1"]
    losses = model.losses()
    del losses["task1"]
    balancer.backward(losses)
    assert balancer.solver.state_dict()["weights"]["task1"] == before


@sources
def test_a_zero_gradient_does_not_freeze_the_others(source):
    model = Net()
    with torch.no_grad():  # a zero-initialised head: its gradient to the trunk is exactly zero
        model.heads[1].weight.zero_()
    report = mgda(model, source(model)).backward(model.losses())
    assert report.left_out == {"task1": "zero gradient"}
    assert report.status is gb.Status.CONVERGED
    assert report.weights[1] == 0.0
    assert model.trunk[-1].weight.grad.norm() > 0
    assert model.heads[1].weight.grad.norm() > 0  # its head still learns


@sources
def test_a_zero_gradient_taken_strictly_gives_a_zero_direction(source):
    model = Net()
    with torch.no_grad():
        model.heads[1].weight.zero_()
    report = mgda(model, source(model), zero_gradients="strict").backward(model.losses())
    assert report.weights.tolist() == [0.0, 1.0, 0.0]
    assert report.status is gb.Status.STATIONARY
    assert model.trunk[-1].weight.grad.norm() == 0


def test_solvers_that_weigh_losses_take_zero_gradients_as_they_are():
    model = Net()
    with torch.no_grad():
        model.heads[1].weight.zero_()
    balancer = gb.Balancer(gb.GradNorm(), gb.SharedParameters(model.trunk))
    report = balancer.backward(model.losses())
    assert report.left_out == {}
    assert model.heads[1].weight.grad.norm() > 0


def test_all_gradients_zero_is_an_ordinary_step():
    x = torch.zeros(2, requires_grad=True)
    report = gb.Balancer(gb.MGDA()).backward([(x**2).sum(), (x**4).sum()])
    assert report.status is gb.Status.STATIONARY
    assert x.grad.tolist() == [0.0, 0.0]


def test_a_stationary_point_is_an_ordinary_step():
    x = torch.ones(2, requires_grad=True)
    report = gb.Balancer(gb.MGDA()).backward([x.sum(), -2 * x.sum()])
    assert report.status is gb.Status.STATIONARY
    assert x.grad.tolist() == [0.0, 0.0]
    np.testing.assert_allclose(report.weights, [2 / 3, 1 / 3])


@sources
@pytest.mark.parametrize("solver", [gb.MGDA, gb.Uniform])
@pytest.mark.parametrize("heads", ["raw", "weighted"])
def test_non_finite_tasks_are_skipped_on_request(source, solver, heads):
    model, other = Net(), Net()
    balancer = gb.Balancer(solver(), source(model), nonfinite="skip", heads=heads)
    losses = model.losses()
    losses["task1"] = losses["task1"] * float("nan")
    report = balancer.backward(losses)
    assert report.left_out == {"task1": "not finite"}
    assert report.weights[1] == 0.0
    healthy = gb.Balancer(solver(), source(other), heads=heads)
    pair = other.losses()
    del pair["task1"]
    expected = healthy.backward(pair)
    assert report.weights[[0, 2]] == pytest.approx(expected.weights)
    for name, gradient in grads(other).items():
        if gradient is None:
            assert grads(model)[name] is None
        else:
            torch.testing.assert_close(grads(model)[name], gradient)


def test_a_gradient_that_is_not_finite_under_a_finite_loss():
    x = torch.zeros(2, requires_grad=True)
    losses = {"root": x.square().sum().sqrt(), "plain": (x - 1).square().sum()}
    with pytest.raises(ValueError, match="gradient of task 'root' is not finite"):
        gb.Balancer(gb.MGDA()).backward(losses)
    assert x.grad is None
    losses = {"root": x.square().sum().sqrt(), "plain": (x - 1).square().sum()}
    report = gb.Balancer(gb.MGDA(), nonfinite="skip").backward(losses)
    assert x.grad.tolist() == [-2.0, -2.0]
    assert report.left_out == {"root": "not finite"}


def test_all_tasks_skipped_writes_nothing_and_keeps_the_state():
    model = Net()
    balancer = gb.Balancer(gb.PCGrad(), nonfinite="skip")
    report = balancer.backward({n: x * float("inf") for n, x in model.losses().items()})
    assert report.status is None
    assert set(grads(model).values()) == {None}
    assert balancer.solver.state_dict()["num_steps"] == 0
    assert "no task took part" in str(report)


@pytest.mark.parametrize("solver", [gb.Uniform, gb.MGDA, gb.PCGrad, gb.GradNorm])
@sources
def test_scale(solver, source):
    model = Net()
    total = gb.Balancer(solver(), source(model), scale="sum").measure(model.losses())
    assert total.weights.sum() == pytest.approx(3.0)
    norm = gb.Balancer(solver(), source(model), scale="norm").measure(model.losses())
    assert norm.weights @ norm.gram @ norm.weights == pytest.approx(norm.gram.sum())
    plain = gb.Balancer(solver(), source(model)).measure(model.losses())
    np.testing.assert_allclose(
        norm.weights / norm.weights.sum(), plain.weights / plain.weights.sum()
    )


def test_the_reported_weights_are_those_that_acted():
    model = HandModel()
    balancer = gb.Balancer(gb.PCGrad(), scale="norm")
    report = balancer.backward(model.losses())
    rows = torch.tensor(model.ROWS_W, dtype=torch.float64)
    expected = torch.einsum("t,tij->ij", torch.from_numpy(report.weights), rows)
    torch.testing.assert_close(model.trunk.weight.grad, expected)


def test_heads_default_to_what_the_solver_weighs():
    assert gb.Balancer(gb.MGDA()).options.heads == "raw"
    assert gb.Balancer(gb.PCGrad()).options.heads == "raw"
    assert gb.Balancer(gb.GradNorm()).options.heads == "weighted"
    assert gb.Balancer(gb.Uniform()).options.heads == "weighted"


def test_a_balancer_registers_nothing():
    model = Net()
    model.balancer = mgda(model)
    before = {name for name, _ in Net().named_parameters()}
    assert {name for name, _ in model.named_parameters()} == before
    assert list(model.balancer.buffers()) == []


@pytest.mark.parametrize("solver", [gb.Uniform, gb.MGDA, gb.PCGrad, gb.GradNorm])
def test_training_lowers_every_loss(solver):
    # All tasks can be fitted at once, so that every method must get there.
    torch.manual_seed(0)
    target = torch.nn.Linear(4, 3).requires_grad_(False)
    balancer = gb.Balancer(solver())
    history = gb.History()
    trunk = torch.nn.Linear(4, 8)
    heads = torch.nn.ModuleList(torch.nn.Linear(8, 1) for _ in range(3))
    optimizer = torch.optim.SGD([*trunk.parameters(), *heads.parameters()], lr=0.05)
    for _ in range(150):
        x = torch.randn(32, 4)
        y = target(x)
        z = trunk(x)
        losses = [(head(z)[:, 0] - y[:, i]).square().mean() for i, head in enumerate(heads)]
        optimizer.zero_grad()
        history.append(balancer.backward(losses))
        optimizer.step()
    assert (history.losses[-20:].mean(0) < 0.2 * history.losses[:5].mean(0)).all()


class Fixed(gb.StatelessSolver):
    """Returns the weights and the status that it is given."""

    needs = "gramian"
    weighs = "gradients"

    def __init__(self, weights, status=gb.Status.CONVERGED):
        self.weights, self.status = np.array(weights), status

    def solve(self, problem):
        return gb.Solution(self.weights, self.status)


class Counting(gb.Solver):
    """Uniform weights, and a count of its updates."""

    needs = "losses"
    weighs = "losses"

    def __init__(self):
        self.num_updates = 0

    def solve(self, problem):
        return gb.Uniform().solve(problem)

    def update(self, problem, solution):
        self.num_updates += 1

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_weights_of_a_negative_sum_are_not_turned_round():
    report = gb.Balancer(Fixed([-2.0, 1.0, 0.0]), scale="sum").measure(Net().losses())
    assert report.weights.tolist() == [-2.0, 1.0, 0.0]


def test_a_direction_that_cancels_to_rounding_is_not_blown_up():
    solver = Fixed([0.5, 0.25, 0.25], gb.Status.STATIONARY)
    report = gb.Balancer(solver, scale="norm").measure(Net().losses())
    assert report.weights.tolist() == [0.5, 0.25, 0.25]


def test_a_direction_of_length_zero_has_no_scale():
    x = torch.zeros(2, requires_grad=True)
    balancer = gb.Balancer(gb.Uniform(), gb.SharedParameters([x]), scale="norm")
    assert balancer.backward([(x**2).sum(), (x**4).sum()]).weights.tolist() == [1.0, 1.0]


def test_a_sum_that_cancels_to_rounding_has_no_norm_to_scale_to():
    a, b = 0.5833820394550312, -0.5833820394550314  # a² + 2ab + b² < 0 in float64
    assert a * a + a * b + b * a + b * b < 0
    x = torch.zeros((), dtype=torch.float64, requires_grad=True)
    balancer = gb.Balancer(Fixed([1.0, 0.0]), gb.SharedParameters([x]), scale="norm")
    assert balancer.backward([a * x, b * x]).weights.tolist() == [0.0, 0.0]


def test_the_solvers_steps_and_certificate_are_reported():
    model = Net()
    solver = gb.MGDA(method="frank_wolfe", max_steps=2)
    report = gb.Balancer(solver, gb.SharedParameters(model.trunk)).measure(model.losses())
    solution = solver.solve(gb.Problem.of(report.gram))
    assert report.num_steps == solution.num_steps == 2
    assert report.certificate == pytest.approx(solution.certificate)


@pytest.mark.parametrize(
    "preferences", [[1.0, 5.0, 2.0], {"task0": 1.0, "task1": 5.0, "task2": 2.0}]
)
def test_preferences_are_of_all_tasks_also_where_one_is_missing(preferences):
    model = Net()
    balancer = gb.Balancer(gb.Uniform(preferences=preferences), tasks=["task0", "task1", "task2"])
    report = balancer.backward(model.losses() | {"task1": None})
    assert report.weights.tolist() == [1.0, 0.0, 2.0]


def test_losses_stay_with_their_tasks_around_a_zero_gradient():
    model = Net()
    with torch.no_grad():
        model.heads[0].weight.zero_()
    pair = model.losses()
    del pair["task0"]
    solver = gb.MGDA(normalization="loss")
    expected = gb.Balancer(solver, gb.SharedParameters(model.trunk)).measure(pair)
    report = gb.Balancer(solver, gb.SharedParameters(model.trunk)).measure(model.losses())
    assert report.left_out == {"task0": "zero gradient"}
    assert report.weights[1:] == pytest.approx(expected.weights, rel=1e-12)


def test_the_order_of_a_mapping_changes_nothing():
    model = Net(num_tasks=8)  # PCGrad's random orders go by the tasks' places
    names = list(model.losses())
    reports = [
        gb.Balancer(gb.PCGrad(), gb.SharedParameters(model.trunk), tasks=names).measure(losses)
        for losses in (model.losses(), dict(reversed(model.losses().items())))
    ]
    assert reports[0].conflicts
    assert reports[0].weights.tolist() == reports[1].weights.tolist()


def test_the_solver_is_not_updated_where_nothing_was_written():
    model = Net()
    balancer = gb.Balancer(Counting())
    losses = model.losses()
    balancer.backward(losses)
    with pytest.raises(ValueError, match="freed by an earlier backward"):
        balancer.backward(losses)
    assert balancer.solver.num_updates == 1


@pytest.mark.parametrize("solver", [gb.PCGrad, gb.GradNorm])
def test_measuring_changes_no_state(solver):
    model = Net()
    balancer = gb.Balancer(solver())
    before = balancer.get_extra_state()
    balancer.measure(model.losses())
    assert torch.equal(balancer.get_extra_state(), before)
    balancer.backward(list(model.losses().values()))  # nor are the names fixed


def test_a_first_step_without_usable_tasks_fixes_their_names():
    balancer = gb.Balancer(gb.MGDA(), nonfinite="skip")
    balancer.backward({name: loss * torch.nan for name, loss in Net().losses().items()})
    with pytest.raises(ValueError, match="unknown tasks"):
        balancer.backward({"other": Net().losses()["task0"]})
