"""SDMGrad and MoDo: the authors' rules on one batch, two and three, and what these are for."""

import numpy as np
import pytest
import torch

import gradbalance as gb

NAMES = [["a1", "b1", "c1"], ["a2", "b2", "c2"], ["a3", "b3", "c3"]]
SHARES = {1: [1.0], 2: [0.5, 0.5], 3: [0.0, 0.0, 1.0]}

both = pytest.mark.parametrize("make", [gb.SDMGrad, gb.MoDo])
forms = pytest.mark.parametrize("num_batches", [1, 2, 3])


def named(num_batches):
    """The option for so many batches."""
    return None if num_batches == 1 else NAMES[:num_batches]


def projected(point):
    """Onto the simplex, by bisection for the number that all entries above it exceed by 1."""
    low, high = point.max() - 1, point.max()
    for _ in range(55):
        middle = (low + high) / 2
        if (point - middle).clamp(min=0).sum() > 1:
            low = middle
        else:
            high = middle
    return (point - low).clamp(min=0)


def official_sdmgrad(weights, first, second, lam, lr, momentum, num_iters):
    """The weights to go on with and those that are applied, without their constant of 1e-4."""
    products = first @ second.T
    products = products / products.diagonal().clamp(min=0).sqrt().mean() ** 2
    weights = weights.clone().requires_grad_()
    optimizer = torch.optim.SGD([weights], lr=lr, momentum=momentum)
    for _ in range(num_iters):
        weights.grad = products @ weights.detach() + lam * products.mean(dim=1)
        optimizer.step()
        weights.data = projected(weights.data)
    weights = weights.detach()
    return weights, (weights + lam / len(weights)) / (1 + lam)


def official_modo(weights, first, second, gamma, rho):
    moved = projected(weights - gamma * (first @ (second.T @ weights) + rho * weights))
    return moved, moved


RULES = [
    (gb.SDMGrad, official_sdmgrad, {"lam": 0.3, "lr": 10.0, "momentum": 0.5, "num_iters": 20}),
    (gb.SDMGrad, official_sdmgrad, {"lam": 0.0, "lr": 0.1, "momentum": 0.9, "num_iters": 5}),
    (gb.SDMGrad, official_sdmgrad, {"lam": 2.0, "lr": 0.5, "momentum": 0.0, "num_iters": 3}),
    (gb.MoDo, official_modo, {"gamma": 0.1, "rho": 0.1}),
    (gb.MoDo, official_modo, {"gamma": 0.02, "rho": 0.0}),
]


@forms
@pytest.mark.parametrize(("make", "official", "options"), RULES)
def test_follows_the_official_rule_over_30_steps(make, official, options, num_batches):
    rng = np.random.default_rng(num_batches)
    solver, weights = make(batches=named(num_batches), **options), torch.ones(3).double() / 3
    names = [name for batch in NAMES[:num_batches] for name in batch]
    seen = []
    for _ in range(30):
        means = rng.standard_normal((3, 8))
        batches = [means + 0.2 * rng.standard_normal((3, 8)) for _ in range(num_batches)]
        first, second = (
            torch.from_numpy(batches[0]),
            torch.from_numpy(batches[min(1, len(batches) - 1)]),
        )
        weights, applied = official(weights, first, second, **options)
        rows, order = np.vstack(batches), rng.permutation(3 * num_batches)
        gram = (rows @ rows.T)[np.ix_(order, order)]
        problem = gb.Problem.of(gram, names=[names[i] for i in order], tasks=names)
        solution = solver.solve(problem)
        expected = np.concatenate([share * applied.numpy() for share in SHARES[num_batches]])
        np.testing.assert_allclose(solution.weights, expected[order], atol=1e-9)
        solver.update(problem, solution)
        saved = list(solver.state_dict()["weights"].values())
        np.testing.assert_allclose(sorted(saved), sorted(weights.tolist()), atol=1e-9)
        seen.append(weights.tolist())
    assert np.ptp(seen, axis=0).max() > 0.05  # they did move


@both
def test_of_two_batches_both_are_descended_and_of_three_the_third(make):
    jac = np.random.default_rng(0).standard_normal((3, 5))
    for num_batches, shares in SHARES.items():
        rows = np.vstack([jac] * num_batches)
        names = [name for batch in NAMES[:num_batches] for name in batch]
        solver = make(batches=named(num_batches))
        weights = solver.solve(gb.Problem.of(rows @ rows.T, names=names)).weights
        alone = make().solve(gb.Problem.of(jac @ jac.T)).weights
        expected = np.concatenate([share * alone for share in shares])
        np.testing.assert_allclose(weights, expected, atol=1e-12)
        np.testing.assert_allclose(weights @ rows, alone @ jac, atol=1e-12)


MEANS = np.eye(2, 400) * [[1.0], [1.5]]
NOISE = np.array([[0.1], [0.02]])  # of each of the 400 entries


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (gb.MoDo, {"gamma": 0.02, "rho": 0.0}),
        (gb.SDMGrad, {"lam": 0.0, "lr": 0.02, "num_iters": 1, "momentum": 0.0}),
    ],
)
def test_on_two_batches_the_weights_near_mgdas_of_the_mean_gradients_and_on_one_they_do_not(
    make, options
):
    wanted = gb.MGDA().solve(gb.Problem.of(MEANS @ MEANS.T)).weights
    names, seen = [["a1", "b1"], ["a2", "b2"]], {1: [], 2: []}
    solvers = {1: make(**options), 2: make(batches=names, **options)}
    rng = np.random.default_rng(0)
    for step in range(1000):
        batches = [MEANS + NOISE * rng.standard_normal((2, 400)) for _ in range(2)]
        for num_batches, solver in solvers.items():
            rows = np.vstack(batches[:num_batches])
            labels = ["a1", "b1", "a2", "b2"][: len(rows)]
            problem = gb.Problem.of(rows @ rows.T, names=labels)
            solution = solver.solve(problem)
            solver.update(problem, solution)
            if step >= 400:
                seen[num_batches].append(list(solver.state_dict()["weights"].values()))
    np.testing.assert_allclose(np.mean(seen[2], axis=0), wanted, atol=0.03)
    # On one batch the noise counts as length: the first seems to be of √(1 + 400·0.1²) = √5.
    assert np.mean(seen[1], axis=0)[0] < wanted[0] - 0.2


@both
def test_a_loss_that_is_absent_on_one_batch_leaves_its_task_out(make):
    jac = np.random.default_rng(1).standard_normal((5, 6))
    names = ["a1", "b1", "a2", "b2", "c2"]
    every = [name for batch in NAMES[:2] for name in batch]
    solver = make(batches=named(2))
    weights = solver.solve(gb.Problem.of(jac @ jac.T, names=names, tasks=every)).weights
    assert weights[4] == 0.0
    rest = jac[:4]
    pair = make(batches=[["a1", "b1"], ["a2", "b2"]])
    expected = pair.solve(gb.Problem.of(rest @ rest.T, names=names[:4])).weights
    np.testing.assert_allclose(weights[:4], expected, rtol=1e-12)
    none = gb.Problem.of(np.eye(2), names=["a1", "b2"], tasks=every)
    solution = solver.solve(none)
    assert solution.weights.tolist() == [0.0, 0.0]
    solver.update(none, solution)
    assert solver.state_dict() == {"weights": {}}


@both
def test_absent_tasks_keep_their_weights(make):
    jac = 0.3 * np.random.default_rng(2).standard_normal((6, 8))
    every = [name for batch in NAMES[:2] for name in batch]
    solver = make(batches=named(2))
    whole = gb.Problem.of(jac @ jac.T, names=every)
    solver.update(whole, solver.solve(whole))
    before = solver.state_dict()["weights"]
    assert sum(before.values()) == pytest.approx(1.0)
    kept = [1, 2, 4, 5]
    gram, names = (jac @ jac.T)[np.ix_(kept, kept)], [every[i] for i in kept]
    part = gb.Problem.of(gram, names=names, tasks=every)
    solution = solver.solve(part)
    solver.update(part, solution)
    after = solver.state_dict()["weights"]
    assert after["a1"] == before["a1"]
    # The others go on from the nearest weights to theirs that have a sum of 1.
    pair = make(batches=[["b1", "c1"], ["b2", "c2"]])
    missing = before["a1"] / 2
    pair.load_state_dict({"weights": {"b1": before["b1"] + missing, "c1": before["c1"] + missing}})
    alone = gb.Problem.of(gram, names=names)
    np.testing.assert_allclose(solution.weights, pair.solve(alone).weights, rtol=1e-9)


@both
def test_looking_changes_nothing_and_states_go_on_where_they_were(make):
    jac = np.random.default_rng(3).standard_normal((3, 6))
    problem, solver, other = gb.Problem.of(jac @ jac.T), make(), make()
    first = solver.solve(problem).weights
    assert solver.solve(problem).weights.tolist() == first.tolist()
    assert solver.state_dict() == {"weights": {}}
    solver.update(problem, solver.solve(problem))
    other.load_state_dict(solver.state_dict())
    assert other.solve(problem).weights.tolist() == solver.solve(problem).weights.tolist()


def test_gradients_of_zero_move_no_weight_of_sdmgrad():
    solution = gb.SDMGrad().solve(gb.Problem.of(np.zeros((4, 4))))
    assert solution.weights.tolist() == [0.25] * 4


def test_of_norms_that_two_batches_make_negative_nothing_is_undefined():
    # b points the other way on the second batch: its squared norm, -1, counts as 0.
    jac = np.array([[2.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, -1.0]])
    names = ["a1", "b1", "a2", "b2"]
    solver = gb.SDMGrad(
        batches=[["a1", "b1"], ["a2", "b2"]], lam=0.0, lr=0.1, momentum=0.0, num_iters=1
    )
    weights = solver.solve(gb.Problem.of(jac @ jac.T, names=names)).weights
    # The mean norm is 1: A is diag(4, -1), and half of 0.1·(2, -½) and its projection is ±0.0625.
    np.testing.assert_allclose(2 * weights[:2], [0.5 - 0.125, 0.5 + 0.125], rtol=1e-12)


def test_for_a_large_lambda_sdmgrad_is_the_mean_and_for_none_mgda():
    jac = np.random.default_rng(4).standard_normal((3, 6)) * [[1.0], [2.0], [0.5]]
    problem = gb.Problem.of(jac @ jac.T)
    np.testing.assert_allclose(gb.SDMGrad(lam=1e9).solve(problem).weights, [1 / 3] * 3, rtol=1e-6)
    weights = gb.SDMGrad(lam=0.0, lr=0.1, num_iters=3000).solve(problem).weights
    np.testing.assert_allclose(weights @ jac, gb.MGDA().solve(problem).weights @ jac, atol=1e-6)


@both
@pytest.mark.parametrize(
    "batches", [[["a1", "b1"], ["a2", "b2"]], [["a1", "b1", "c1"], ["a2", "b2", "x"]]]
)
def test_batches_that_are_not_those_of_the_losses_are_refused(make, batches):
    every = [name for batch in NAMES[:2] for name in batch]
    with pytest.raises(ValueError, match="batches must name every loss; found"):
        make(batches=batches).solve(gb.Problem.of(np.eye(6), names=every))


@both
@pytest.mark.parametrize(
    "batches",
    [
        [["a", "b"]],
        [["a"], ["b"], ["c"], ["d"]],
        [["a", "b"], ["c"]],
        [["a", "b"], ["a", "c"]],
        [["a", "a"], ["b", "c"]],
        [],
    ],
)
def test_batches_that_do_not_fit_each_other_are_refused(make, batches):
    with pytest.raises(ValueError, match="two or three lists of as many names each, all different"):
        make(batches=batches)


@both
@pytest.mark.parametrize("batches", ["ab", ["ab", "cd"]])
def test_names_that_are_no_lists_are_refused(make, batches):
    with pytest.raises(ValueError, match="batches must be lists of names of losses"):
        make(batches=batches)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (gb.MoDo, {"gamma": 0.0}, r"gamma must be a number in \(0, inf\)"),
        (gb.MoDo, {"rho": -1.0}, r"rho must be a number in \[0, inf\)"),
        (gb.SDMGrad, {"lam": -1.0}, r"lam must be a number in \[0, inf\)"),
        (gb.SDMGrad, {"lr": 0.0}, r"lr must be a number in \(0, inf\)"),
        (gb.SDMGrad, {"momentum": 1.0}, r"momentum must be a number in \[0, 1\)"),
        (gb.SDMGrad, {"num_iters": 0}, "num_iters must be an integer of at least 1"),
    ],
)
def test_options_out_of_range_are_refused(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


class Model(torch.nn.Module):
    """A trunk with two heads."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = torch.nn.Linear(3, 4, dtype=torch.float64)
        self.heads = torch.nn.ModuleList(
            torch.nn.Linear(4, 1, dtype=torch.float64) for _ in range(2)
        )

    def losses(self, x, y):
        """By name, on each half of the batch."""
        z = self.trunk(x).tanh()
        return {
            f"{name}{half + 1}": (head(z[rows]) - y[rows, task : task + 1]).square().mean()
            for task, (name, head) in enumerate(zip("ab", self.heads, strict=True))
            for half, rows in enumerate([slice(0, 4), slice(4, 8)])
        }


@pytest.mark.parametrize(
    ("make", "official", "options"),
    [
        (gb.SDMGrad, official_sdmgrad, {"lam": 0.3, "lr": 0.1, "momentum": 0.5, "num_iters": 7}),
        (gb.MoDo, official_modo, {"gamma": 0.1, "rho": 0.1}),
    ],
)
def test_halves_of_a_batch_in_training_steps_give_the_weighted_gradient(make, official, options):
    model, generator = Model(), torch.Generator().manual_seed(1)
    solver = make(batches=[["a1", "b1"], ["a2", "b2"]], **options)
    balancer = gb.Balancer(solver, gb.SharedParameters(model.trunk), heads="raw")
    weights, optimizer = torch.ones(2).double() / 2, torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        x, y = (torch.randn(8, k, dtype=torch.float64, generator=generator) for k in (3, 2))
        y = 3 * y + 1
        losses, shared = model.losses(x, y), list(model.trunk.parameters())
        rows = {
            name: flat(torch.autograd.grad(loss, shared, retain_graph=True))
            for name, loss in losses.items()
        }
        first, second = (torch.stack([rows["a" + half], rows["b" + half]]) for half in "12")
        weights, applied = official(weights, first, second, **options)
        head = model.heads[0].weight
        of_head = torch.autograd.grad(losses["a1"] + losses["a2"], head, retain_graph=True)[0]
        optimizer.zero_grad()
        balancer(losses).backward()
        found = flat([p.grad for p in shared])
        torch.testing.assert_close(found, applied @ (first + second) / 2)
        torch.testing.assert_close(head.grad, of_head)
        optimizer.step()
    assert balancer.report.names == ("a1", "a2", "b1", "b2")
    np.testing.assert_allclose(
        balancer.report.weights, 0.5 * applied.numpy()[[0, 0, 1, 1]], rtol=1e-9
    )
