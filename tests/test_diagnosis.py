"""`diagnose`: its numbers by plain autograd, its verdict on models whose answer is known."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import gradbalance as gb
from gradbalance.numerics.intervals import half_width, share_interval


class Model(nn.Module):
    """A trunk and a head for each of three tasks, two of which pull apart."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3), nn.Tanh())
        self.heads = nn.ModuleDict({name: nn.Linear(3, 1) for name in ("up", "down", "size")})
        self.double()

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        z = self.trunk(x)
        y = {name: head(z)[:, 0] for name, head in self.heads.items()}
        return {
            "up": (y["up"] - x.sum(1)).square().mean(),
            "down": (z.sum(1) + y["down"] + x.sum(1)).square().mean(),
            "size": 3 * (y["size"] - x[:, 0].abs()).abs().mean(),
        }


@pytest.fixture
def batches() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(6, 16, 4, dtype=torch.float64)


def rows_of(model: Model, batches: Tensor) -> np.ndarray:
    """[B, T, P] the gradients of the trunk by plain autograd."""
    trunk = list(model.trunk.parameters())

    def row(loss: Tensor) -> np.ndarray:
        grads = torch.autograd.grad(loss, trunk, retain_graph=True)
        return torch.cat([g.reshape(-1) for g in grads]).numpy()

    return np.array([[row(loss) for loss in model.losses(x).values()] for x in batches])


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


class TestNumbers:
    def test_are_those_of_autograd(self, batches: Tensor):
        model = Model()
        rows = rows_of(model, batches)
        found = gb.diagnose(model.losses, batches)
        losses = [[x.item() for x in model.losses(b).values()] for b in batches]
        norms = np.linalg.norm(rows, axis=2)
        within = np.array([[[cosine(a, b) for b in r] for a in r] for r in rows])
        sums = rows.sum(1)
        own = np.array([r @ s for r, s in zip(rows, sums, strict=True)])
        swapped = sums[[1, 0, 3, 2, 5, 4]]
        other = np.array([r @ s for r, s in zip(rows, swapped, strict=True)])
        by_sum = [[cosine(g, s) for g in r] for r, s in zip(rows, swapped, strict=True)]
        pair_means = np.array(by_sum).reshape(3, 2, 3).mean(1)
        across = [
            [[(cosine(a[i], b[j]) + cosine(b[i], a[j])) / 2 for j in range(3)] for i in range(3)]
            for a, b in zip(rows[::2], rows[1::2], strict=True)
        ]
        assert found.names == ("up", "down", "size")
        assert found.num_batches == 6
        for name, expected in {
            "losses": np.mean(losses, 0),
            "norms": np.median(norms, 0),
            "shares": (norms**2 / (norms**2).sum(1, keepdims=True)).mean(0),
            "cosines": within.mean(0),
            "spreads": within.std(0, ddof=1),
            "conflicts": (within < 0).mean(0),
            "raised": (own < 0).mean(0),
            "raised_elsewhere": (other < 0).mean(0),
            "sum_cosines": pair_means.mean(0),
            "agreement": np.diagonal(np.mean(across, 0)),
            "cross_cosines": np.mean(across, 0),
        }.items():
            np.testing.assert_allclose(getattr(found, name), expected, atol=1e-9, err_msg=name)
        upper = within[:, [0, 0, 1], [1, 2, 2]] < 0
        assert found.conflict_share == pytest.approx(upper.mean())
        assert 0 < found.conflict_share < 1
        assert 0 < found.raised.sum() < 6
        t = stats.t.ppf(1 - 0.025 / 6, 2) / math.sqrt(3)
        np.testing.assert_allclose(found.cross_errors, t * np.std(across, 0, ddof=1), atol=1e-9)
        t = stats.t.ppf(1 - 0.025 / 3, 2) / math.sqrt(3)
        np.testing.assert_allclose(found.sum_errors, t * pair_means.std(0, ddof=1), atol=1e-9)

    def test_a_task_has_the_cosine_1_with_itself_without_noise(self):
        torch.manual_seed(0)
        noise = torch.randn(24, 2, 40, dtype=torch.float64)
        x = torch.zeros(40, dtype=torch.float64, requires_grad=True)
        signal = torch.zeros(2, 40, dtype=torch.float64)
        signal[0, 0] = signal[1, 0] = signal[1, 1] = 5.0  # at 45 degrees

        found = gb.diagnose(lambda e: ((signal + e) @ x).unbind(), noise, gb.SharedParameters(x))
        assert found.cosines[0, 1] < 0.5
        assert found.signal_cosines[0, 1] == pytest.approx(math.sqrt(0.5), abs=0.1)
        np.testing.assert_allclose(np.diagonal(found.signal_cosines), 1)
        np.testing.assert_allclose(found.agreement, [25 / 65, 50 / 90], atol=0.08)

    def test_heads_are_not_taken_for_shared(self, batches: Tensor):
        model = Model()
        found = gb.diagnose(model.losses, batches)
        named = gb.diagnose(model.losses, batches, gb.SharedParameters(model.trunk))
        listed = gb.diagnose(model.losses, batches, gb.SharedParameters())
        np.testing.assert_allclose(found.norms, named.norms)
        np.testing.assert_allclose(found.norms, listed.norms)

    def test_what_is_shared_on_some_batches_only_counts(self):
        a, b = (nn.Parameter(torch.ones(2)) for _ in range(2))

        def losses(batch: tuple[bool, float]) -> list[Tensor]:
            z = (a + b if batch[0] else a) * batch[1]
            return [z.sum(), z.square().sum()]

        found = gb.diagnose(losses, [(False, 1.0), (True, 1.0), (True, 1.0), (True, 1.0)])
        assert found.norms[0] == pytest.approx(2)  # of four entries of 1

    def test_an_odd_batch_is_left_out_and_no_more_than_asked_for_are_taken(self, batches: Tensor):
        model = Model()
        seen = gb.diagnose(model.losses, batches[:5])
        assert seen.num_batches == 4
        np.testing.assert_allclose(seen.norms, gb.diagnose(model.losses, batches[:4]).norms)
        endless = (batch for _ in range(1000000) for batch in batches)
        assert gb.diagnose(model.losses, endless, num_batches=4).num_batches == 4


class TestIntervals:
    def test_of_independent_cases_is_wilsons(self):
        found = share_interval(np.array([1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]), 1)
        wilson = stats.binomtest(6, 8).proportion_ci(method="wilson")
        np.testing.assert_allclose(found, [wilson.low, wilson.high])

    def test_all_or_none_is_not_certain(self):
        wilson = stats.binomtest(0, 8).proportion_ci(method="wilson")
        np.testing.assert_allclose(share_interval(np.zeros(8), 10), [0, wilson.high], atol=1e-12)
        np.testing.assert_allclose(share_interval(np.ones(8), 10), [1 - wilson.high, 1])

    def test_cases_that_depend_on_each_other_count_once(self):
        """All pairs of a batch conflict together: as wide as if there were one pair a batch."""
        together = np.array([1.0, 0.0] * 8)
        apart = np.full(16, 0.5)
        assert share_interval(together, 45) == pytest.approx(share_interval(together, 1))
        low, high = share_interval(apart, 45)
        assert high - low < 0.1

    @pytest.mark.parametrize("together", [True, False])
    def test_holds_what_it_promises(self, together: bool):
        generator = np.random.default_rng(0)
        held = 0
        for _ in range(400):
            cases = generator.random((32, 1 if together else 6)) < 0.3
            low, high = share_interval(cases.mean(1), 6)
            held += low <= 0.3 <= high
        assert held / 400 > 0.92

    def test_several_means_hold_together(self):
        values = np.random.default_rng(0).normal(size=(400, 8, 10))
        assert np.mean([(np.abs(v.mean(0)) < half_width(v, 10)).all() for v in values]) > 0.92


class TestNothingIsWritten:
    def test_grad_stays_the_very_same(self, batches: Tensor):
        model = Model()
        sum(model.losses(batches[0]).values()).backward()
        model.heads["size"].bias.grad = None
        grads = [p.grad for p in model.parameters()]
        values = [None if g is None else g.clone() for g in grads]
        parameters = [p.detach().clone() for p in model.parameters()]
        compared = {"representation": gb.Representation(model.trunk)}
        gb.diagnose(model.losses, batches, compared=compared)
        for p, grad, value, before in zip(
            model.parameters(), grads, values, parameters, strict=True
        ):
            assert p.grad is grad
            assert grad is None or torch.equal(grad, value)
            assert torch.equal(p, before)

    def test_also_after_an_error_in_a_step(self, batches: Tensor):
        model = Model()
        sum(model.losses(batches[0]).values()).backward()
        grads = [p.grad for p in model.parameters()]
        values = [grad.clone() for grad in grads]

        class Failing(torch.autograd.Function):
            """Fails in the third backward of a pair, which is a timed one."""

            calls = 0

            @staticmethod
            def forward(ctx, x):
                return x.clone()

            @staticmethod
            def backward(ctx, grad):
                Failing.calls += 1
                if Failing.calls == 3:
                    raise RuntimeError("out of memory")
                return grad

        def losses(x: Tensor) -> dict[str, Tensor]:
            found = model.losses(x)
            return {**found, "up": Failing.apply(found["up"])}

        with pytest.raises(RuntimeError, match="out of memory"):
            gb.diagnose(losses, batches)
        assert Failing.calls == 3
        for p, grad, value in zip(model.parameters(), grads, values, strict=True):
            assert p.grad is grad
            assert torch.equal(grad, value)

    def test_no_step_is_timed_where_it_would_train(self, batches: Tensor):
        """An optimizer in the backward: a hook on a finished `.grad` moves the parameter."""
        model = Model()
        before = [p.detach().clone() for p in model.parameters()]

        def step(p: Tensor) -> None:
            with torch.no_grad():
                p.sub_(p.grad)

        for p in model.parameters():
            p.register_post_accumulate_grad_hook(step)
        found = gb.diagnose(model.losses, batches)
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
        assert math.isnan(found.milliseconds["exact"])
        assert found.milliseconds["forward pass"] > 0
        assert "–" in str(found)

    def test_works_under_no_grad(self, batches: Tensor):
        with torch.no_grad():
            gb.diagnose(Model().losses, batches)


class TestCompared:
    def test_a_source_that_sees_the_same_agrees_fully(self, batches: Tensor):
        model = Model()
        same, sketch = gb.SharedParameters(model.trunk), gb.SharedParameters(sketch=4096)
        found = gb.diagnose(model.losses, batches, compared={"same": same, "sketch": sketch})
        assert found.correlation["same"] == pytest.approx(1)
        assert found.same_sign["same"] == 1
        assert found.correlation["sketch"] > 0.95
        assert set(found.milliseconds) == {"forward pass", "plain sum", "exact", "same", "sketch"}
        assert any("`same` sees agrees" in sentence for sentence in found.verdict)

    def test_numbers_are_those_of_the_reports(self, batches: Tensor):
        model = Model()
        source = gb.SharedParameters(model.trunk, measure=model.trunk[0])
        found = gb.diagnose(model.losses, batches, compared={"first": source})
        pairs = ([0, 0, 1], [1, 2, 2])
        balancers = [gb.Balancer(gb.MGDA()), gb.Balancer(gb.MGDA(), source)]
        exact, first = (
            np.array([balancer.measure(model.losses(x)).cosines[pairs] for x in batches])
            for balancer in balancers
        )
        clear = np.abs(exact) > exact.std(0, ddof=1)
        assert found.correlation["first"] == pytest.approx(
            np.corrcoef(exact.flat, first.flat)[0, 1]
        )
        assert found.same_sign["first"] == pytest.approx(np.mean((exact * first > 0)[clear]))
        assert found.same_sign["first"] != np.mean(exact * first > 0)

    def test_one_that_sees_something_else_does_not(self):
        """Tasks that agree on the first parameter, and conflict on the second and larger one."""
        small, large = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))

        def losses(noise: Tensor) -> dict[str, Tensor]:
            return {
                "a": small.sum() + (1 + noise) * (2 * large).sum(),
                "b": small.sum() - (2 * large).sum(),
            }

        only = gb.SharedParameters([small, large], measure=small)
        found = gb.diagnose(losses, torch.randn(8) / 10, compared={"small": only})
        assert found.same_sign["small"] == 0
        assert any("`small` sees does not agree" in sentence for sentence in found.verdict)

    def test_representations_may_be_compared_side_by_side(self, batches: Tensor):
        model = Model()
        sources = {"z": gb.Representation(model.trunk), "half": gb.Representation(model.trunk[1])}
        losses = model.losses
        found = gb.diagnose(losses, batches, gb.SharedParameters(model.trunk), compared=sources)
        assert all(-1 <= r <= 1 for r in found.correlation.values())
        balancer = gb.Balancer(gb.MGDA(), sources["z"])
        balancer.backward(losses(batches[0]))  # nothing that was captured is left


class TwoTowers(nn.Module):
    """A recommender: does a user click on an item, and how do they rate it, from 1 to 100?"""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(50, 8), nn.Embedding(80, 8)
        self.user, self.item = nn.Linear(8, 8), nn.Linear(8, 8)
        self.click, self.rating = nn.Linear(8, 1), nn.Linear(8, 1)

    def losses(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        users, items, clicked, ratings = batch
        z = self.user(self.users(users)).tanh() * self.item(self.items(items)).tanh()
        click = nn.functional.binary_cross_entropy_with_logits(self.click(z)[:, 0], clicked)
        return {"click": click, "rating": (self.rating(z)[:, 0] - ratings).square().mean()}


def draws(num_batches: int) -> list[tuple[Tensor, ...]]:
    taste, kind = torch.randn(50, 3), torch.randn(80, 3)

    def draw() -> tuple[Tensor, ...]:
        users, items = torch.randint(50, (128,)), torch.randint(80, (128,))
        liking = (taste[users] * kind[items]).sum(1)
        return users, items, (liking > 0).float(), (50 + 15 * liking).clamp(1, 100)

    return [draw() for _ in range(num_batches)]


class TestVerdict:
    def test_readme(self):
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 2)

        def losses(x: Tensor) -> dict[str, Tensor]:
            y = model(x)
            return {"depth": (y[:, 0] - x.sum(1)).square().mean(), "seg": y[:, 1].abs().mean()}

        verdict = gb.diagnose(losses, torch.randn(10, 32, 4)).verdict
        assert any(sentence.startswith("No conflicts: in 0 % [0, ") for sentence in verdict)
        assert "The plain sum lowers the loss of every task, also on another batch." in verdict
        assert verdict[-1] == "Try: `Uniform()`; there is nothing to balance here."

    def test_two_towers_with_a_rating_in_raw_units(self):
        torch.manual_seed(0)
        model = TwoTowers()
        found = gb.diagnose(model.losses, draws(16))
        assert found.shares[1] > 0.99
        assert "`rating` carries >99.9 % of the gradient" in found.verdict[0]
        assert all(text in found.verdict[-1] for text in ("weights on the losses", "`NashMTL()`"))
        assert "SI()" in found.verdict[-1]

    def test_different_units_without_a_conflict(self):
        x = torch.tensor([1.0, 2.0], requires_grad=True)

        def losses(noise: Tensor) -> dict[str, Tensor]:
            return {"m": (x - noise).square().sum(), "mm": (1000 * (x - noise)).square().sum()}

        verdict = gb.diagnose(losses, torch.randn(8, generator=seeded()) / 10).verdict
        assert verdict[-1].startswith("Try: weights on the losses will do; tune them, or `SI()`.")

        def shifted(noise: Tensor) -> dict[str, Tensor]:
            return {name: loss - 1e8 for name, loss in losses(noise).items()}

        advice = gb.diagnose(shifted, torch.randn(8, generator=seeded()) / 10).verdict[-1]
        assert "SI()" not in advice  # it takes logarithms
        assert "DBMTL" not in advice

    def test_a_designed_conflict(self):
        x = torch.ones(2, requires_grad=True)

        def losses(noise: Tensor) -> dict[str, Tensor]:
            return {"near": (x - noise).square().sum(), "far": (x - 3 + noise).square().sum()}

        found = gb.diagnose(losses, torch.randn(8, generator=seeded()) / 10)
        assert found.conflict_share == 1
        assert any("also from one batch to another: `near` and" in s for s in found.verdict)
        assert "A step along the plain sum raises `near` in 100 % of the batches." in found.verdict
        assert found.verdict[-1].startswith('Try: `UPGrad()` with scale="norm"')

    def test_a_conflict_that_the_sum_resolves(self):
        x = torch.zeros(2, requires_grad=True)
        g = torch.tensor([[1.0, 0.0], [-0.5, 1.0]])

        found = gb.diagnose(lambda noise: list((g + noise) @ x + 2), torch.randn(8, 2, 2) / 100,
                            gb.SharedParameters(x))  # fmt: skip
        assert found.conflict_share == 1
        assert found.verdict[-1].startswith("Try: `Uniform()`; gradients conflict")

    def test_labels_of_pure_noise(self):
        torch.manual_seed(0)
        heads = nn.ModuleList([nn.Linear(8, 1) for _ in range(3)])
        trunk = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
        for head in heads:
            nn.init.zeros_(head.bias)  # the best answer: the mean
            nn.init.normal_(head.weight, std=1e-3)

        def losses(x: Tensor) -> dict[str, Tensor]:
            z = trunk(x)
            return {
                name: (head(z)[:, 0] - torch.randn(len(x))).square().mean()
                for name, head in zip("abc", heads, strict=True)
            }

        found = gb.diagnose(losses, torch.randn(32, 16, 6))
        low, high = found.conflict_interval
        assert low < 0.5 < high
        assert any("hardly agree with themselves" in sentence for sentence in found.verdict)
        assert any("none of them beyond the noise" in sentence for sentence in found.verdict)
        assert found.verdict[-1].startswith("Try: a larger batch")
        assert "`CRMOGM(UPGrad())`" in found.verdict[-1]

    def test_nothing_is_wrong(self):
        torch.manual_seed(0)
        trunk, heads = nn.Linear(5, 8), nn.ModuleList([nn.Linear(8, 1) for _ in range(2)])
        heads[1].load_state_dict(heads[0].state_dict())

        def losses(x: Tensor) -> list[Tensor]:
            return [(h(trunk(x))[:, 0] - x.sum(1) - i / 9).square().mean()
                    for i, h in enumerate(heads)]  # fmt: skip

        verdict = gb.diagnose(losses, torch.randn(8, 64, 5)).verdict
        assert verdict[0].startswith("Norms are within a factor of 10")
        assert verdict[-1] == "Try: `Uniform()`; there is nothing to balance here."

    def test_a_task_without_a_gradient(self):
        x = torch.ones(2, requires_grad=True)
        found = gb.diagnose(lambda e: [x.sum() * e, (0 * x).sum()], [1.0, 2.0, 3.0, 4.0],
                            gb.SharedParameters(x))  # fmt: skip
        assert found.verdict[0].startswith("`1` had no gradient in most batches")
        np.testing.assert_allclose(found.shares, [1, 0])
        assert np.isfinite(found.cosines).all()


class TestOutput:
    def test_tables_show_tasks_pairs_sources_and_the_verdict(self, batches: Tensor):
        model = Model()
        source = gb.Representation(model.trunk)
        found = gb.diagnose(model.losses, batches, compared={"z": source})
        text = str(found)
        for part in ("3 tasks on 6 batches", "up · size", "forward pass", "Verdict:\n- "):
            assert part in text
        html = found._repr_html_()
        assert html.count("<table") == 4
        assert all(sentence in text for sentence in found.verdict)

    def test_floats_for_a_logger(self, batches: Tensor):
        found = gb.diagnose(Model().losses, batches)
        floats = found.as_dict("at start/")
        assert floats["at start/share/up"] == found.shares[0]
        assert floats["at start/conflicts/up/size"] == found.conflicts[0, 2]
        assert floats["at start/conflict_share_high"] == found.conflict_interval[1]
        assert all(isinstance(v, float) and not math.isnan(v) for v in floats.values())

    def test_a_long_table_of_pairs_is_cut(self):
        x = torch.ones(6, requires_grad=True)
        found = gb.diagnose(lambda e: (x * e).unbind(), torch.rand(4, 6), gb.SharedParameters(x))
        assert "8 of 15 shown" in str(found)
        assert len(found.pairs) == 15

    def test_a_little_is_not_nothing(self, batches: Tensor):
        found = gb.diagnose(Model().losses, batches)
        text = str(replace(found, shares=np.array([0.99999, 1e-6, 0.0])))
        assert ">99.9 %" in text
        assert "<0.1 %" in text


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"losses": 3}, "losses must be a function"),
            ({"batches": [torch.ones(2, 4)] * 3}, "at least 4 draws of the data.*found 3"),
            ({"source": gb.LossesOnly()}, "source must be SharedParameters"),
            ({"source": gb.SharedParameters(sketch=8)}, "source must name what is shared"),
            ({"compared": {"none": gb.LossesOnly()}}, "compared\\['none'\\] must be a source of"),
            ({"compared": {"exact": gb.SharedParameters()}}, "must not use the name 'exact'"),
            ({"num_batches": 3}, "num_batches must be a whole number, at least 4"),
            ({"losses": lambda x: [Model().losses(x)["up"]]}, "nothing to balance: found one task"),
        ],
    )
    def test_bad_input(self, batches: Tensor, arguments: dict, message: str):
        with pytest.raises(ValueError, match=message):
            gb.diagnose(**{"losses": Model().losses, "batches": batches, **arguments})

    def test_nothing_is_looked_at_before_the_batches_are_counted(self):
        def losses(x: Tensor) -> dict[str, Tensor]:
            raise AssertionError("must not be called")

        with pytest.raises(ValueError, match="at least 4"):
            gb.diagnose(losses, [])

    @pytest.mark.parametrize("absent", [lambda up: {}, lambda up: {"up": None}])
    def test_tasks_that_change(self, batches: Tensor, absent: Callable):
        model, calls = Model(), []

        def losses(x: Tensor) -> dict[str, Tensor]:
            calls.append(x)
            found = model.losses(x)
            up = found.pop("up")
            return {"up": up, **found} if len(calls) < 2 else {**absent(up), **found}

        with pytest.raises(ValueError, match="every batch must have all tasks; found"):
            gb.diagnose(losses, batches)

    def test_a_loss_that_is_not_finite_is_named_with_its_batch(self, batches: Tensor):
        model = Model()
        batches[1] = math.nan
        with pytest.raises(ValueError, match=r"'up \(batch 1\)' is not finite"):
            gb.diagnose(model.losses, batches)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
