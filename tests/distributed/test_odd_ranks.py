"""What goes wrong, or differs, on one rank: the others know of it, and nobody waits for ever."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import gradbalance as gb
from gradbalance.gradients.ranks import Ranks
from tests.distributed.processes import GROUP_TIMEOUT, run
from tests.distributed.test_ranks import (
    SOURCES,
    TASKS,
    Model,
    average,
    batch,
    losses_of,
    share,
    train,
    values_of,
)

Results = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def on_two_ranks() -> Results:
    """What a case gave on each of two ranks; they are started once, and do all cases in turn."""
    done = run(2, run_cases, CASES)
    by_case = [dict(zip(CASES, results, strict=True)) for results in done]
    return lambda *case: [results[case] for results in by_case]


def run_cases(cases: list[tuple[Any, ...]]) -> list[Any]:
    return [function(*args) for function, *args in cases]


def message_of(call: Any) -> str:
    try:
        call()
    except ValueError as error:
        return str(error)
    return ""


def absent_on_rank_1(source: str) -> list[Any]:
    model = Model()
    balancer = gb.Balancer(gb.MGDA(), SOURCES[source](model), tasks=TASKS)
    losses = losses_of(model, share())
    if dist.get_rank() == 1:
        del losses["task1"]
    report = balancer.backward(losses)
    average(model)
    return [*values_of(report), *(p.grad.numpy() for p in model.parameters())]


@pytest.mark.parametrize("source", ["named", "sketched", "representation"])
def test_a_task_that_a_rank_lacks_counts_as_zero_there(source: str, on_two_ranks: Results) -> None:
    found = on_two_ranks(absent_on_rank_1, source)
    model = Model()
    first, second = losses_of(model, slice(0, 4)), losses_of(model, slice(4, 8))
    z = model.trunk(batch()[0])
    outputs = [head(z) for head in model.heads]
    squares = [(o - y).square() for o, y in zip(outputs, batch()[1], strict=True)]
    losses = {name: s.sum() / 8 for name, s in zip(TASKS, squares, strict=True)}
    losses["task1"] = squares[1][:4].sum() / 8
    model.zero_grad()
    kind = gb.Representation() if source == "representation" else SOURCES[source](model)
    passed = z if source == "representation" else None
    report = gb.Balancer(gb.MGDA(), kind).backward(losses, representation=passed)
    assert report.losses[1] == pytest.approx(float(first["task1"].detach()) / 2)
    assert float(second["task1"].detach()) > 0
    expected = [*values_of(report), *(p.grad.numpy() for p in model.parameters())]
    for rank in found:
        for value, right in zip(rank, expected, strict=True):
            np.testing.assert_allclose(value, right, rtol=1e-9, atol=1e-12)


def found_differs() -> str:
    model = Model()
    balancer = gb.Balancer(gb.MGDA(), tasks=TASKS)
    losses = losses_of(model, share())
    if dist.get_rank() == 1:
        losses = {"task1": losses["task1"]}  # one task shares all it has
    return message_of(lambda: balancer.backward(losses))


def tasks_differ() -> str:
    losses = losses_of(Model(), share())
    if dist.get_rank() == 1:
        del losses["task2"]
    return message_of(lambda: gb.Balancer(gb.MGDA()).backward(losses))


def test_ranks_that_disagree_all_say_so(on_two_ranks: Results) -> None:
    for message in on_two_ranks(tasks_differ):
        assert "the tasks must be the same on all ranks" in message
        assert "Balancer(tasks=[...])" in message


def test_a_rank_that_refuses_tells_the_others(on_two_ranks: Results) -> None:
    first, second = on_two_ranks(found_differs)
    assert "the parameters that the tasks share must be the same on all ranks" in first
    assert "at a step that lacks tasks" in second
    assert "Name it" in second


def broken_on_rank_1(what: str, nonfinite: str) -> tuple[str, list[Any], bool]:
    model = Model()
    balancer = gb.Balancer(gb.GradNorm(), SOURCES["named"](model), nonfinite=nonfinite, tasks=TASKS)
    before = balancer.get_extra_state()
    losses = losses_of(model, share())
    if dist.get_rank() == 1:
        broken = losses["task1"]
        factor = model.trunk[0].weight.sum() * 0
        losses["task1"] = broken * torch.nan if what == "loss" else broken + factor.sqrt()
    reports: list[gb.Report] = []
    message = message_of(lambda: reports.append(balancer.backward(losses)))
    untouched = (
        torch.equal(balancer.get_extra_state(), before) and model.trunk[0].weight.grad is None
    )
    return message, [[r.left_out, r.weights] for r in reports], untouched


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_finite_on_one_rank_raises_on_all(what: str, on_two_ranks: Results) -> None:
    for message, _, untouched in on_two_ranks(broken_on_rank_1, what, "raise"):
        assert f"the {what} of task 'task1' is not finite" in message
        assert untouched


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_finite_on_one_is_left_out_on_all(what: str, on_two_ranks: Results) -> None:
    (_, first, _), (_, second, _) = on_two_ranks(broken_on_rank_1, what, "skip")
    assert first[0][0] == second[0][0] == {"task1": "not finite"}
    assert first[0][1].tolist() == second[0][1].tolist()


SKIPPED_UNDER_DDP = ("named", "measured", "representation", "losses", "measured weighted")


def skips_under_ddp(source: str) -> tuple[list[Any], list[Any]]:
    model = Model()
    ddp = DistributedDataParallel(model)
    solver = gb.Uniform() if source == "losses" else gb.MGDA()
    heads = "weighted" if source == "measured weighted" else None
    kind = SOURCES[source.split()[0]](model)
    balancer = gb.Balancer(solver, kind, heads=heads, nonfinite="skip", tasks=TASKS)
    found: list[Any] = []
    for index in range(3):
        model.zero_grad()
        losses = losses_of(ddp, share())
        if index == 1 and dist.get_rank() == 1:
            losses["task1"] = losses["task1"] * torch.nan
        report = balancer.backward(losses)
        found.append((report.left_out, report.weights.tolist()))
    return found, [p.grad.numpy() for p in model.parameters()]


@pytest.mark.parametrize("source", SKIPPED_UNDER_DDP)
def test_ddp_goes_on_after_a_task_was_left_out(source: str, on_two_ranks: Results) -> None:
    (first, of_first), (second, of_second) = on_two_ranks(skips_under_ddp, source)
    assert first == second
    assert [left_out for left_out, _ in first] == [{}, {"task1": "not finite"}, {}]
    assert all(np.array_equal(one, two) for one, two in zip(of_first, of_second, strict=True))


def dies() -> str:
    model = Model()
    balancer = gb.Balancer(gb.MGDA(), SOURCES["named"](model))
    balancer.backward(losses_of(model, share()))
    if dist.get_rank() == 1:
        return "ends here, before the second step"
    try:
        balancer.backward(losses_of(model, share()))
    except Exception as error:
        return type(error).__name__
    return "no error"


def test_when_a_rank_ends_the_others_end_with_an_error() -> None:
    start = time.monotonic()
    survivor, _ = run(2, dies)
    assert survivor.endswith("Error")
    assert time.monotonic() - start < GROUP_TIMEOUT + 20


def without_synchronisation(ddp: bool) -> list[Any]:
    """Two micro-batches whose gradients add up: balanced each for itself, averaged once."""
    model = Model()
    balancer = gb.Balancer(gb.MGDA(), SOURCES["named"](model))
    trained = DistributedDataParallel(model) if ddp else model
    rows = share()
    middle = (rows.start + rows.stop) // 2
    found: list[Any] = []
    for index, part in enumerate((slice(rows.start, middle), slice(middle, rows.stop))):
        last = index == 1
        with trained.no_sync() if ddp and not last else nullcontext():
            found += values_of(balancer.backward(losses_of(trained, part)))
    if not ddp:
        average(model)
    return [*found, *(p.grad.numpy() for p in model.parameters())]


def test_gradients_accumulate_under_no_sync(on_two_ranks: Results) -> None:
    with_ddp, by_hand = (
        on_two_ranks(without_synchronisation, True),
        on_two_ranks(without_synchronisation, False),
    )
    for one, other in zip(with_ddp, by_hand, strict=True):
        for value, right in zip(one, other, strict=True):
            np.testing.assert_allclose(value, right, rtol=1e-9, atol=1e-12)


def under_ddp(source: str, option: str) -> tuple[str, list[Any]]:
    """Three steps under a kind of DDP, or its message."""
    model = Model()
    ddp = DistributedDataParallel(model, **({option: True} if option else {}))
    solver = gb.Uniform() if source == "losses" else gb.MGDA()
    balancer = gb.Balancer(solver, SOURCES[source](model))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        message = message_of(lambda: balancer.backward(losses_of(ddp, share())))
        if message:
            return message, []
        optimizer.step()
    return "", [p.detach().numpy() for p in model.parameters()]


@pytest.mark.parametrize("source", ["named", "sketched", "measured", "representation"])
def test_ddp_that_looks_for_unused_parameters_is_right(source: str, on_two_ranks: Results) -> None:
    plain = on_two_ranks(under_ddp, source, "")
    for (message, found), (_, expected) in zip(
        on_two_ranks(under_ddp, source, "find_unused_parameters"), plain, strict=True
    ):
        assert message == ""
        for value, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(value, right, rtol=1e-9, atol=1e-12)


def test_ddp_that_hides_what_is_shared_says_so(on_two_ranks: Results) -> None:
    for message, _ in on_two_ranks(under_ddp, "found", "find_unused_parameters"):
        assert "SharedParameters(model.trunk)" in message


@pytest.mark.parametrize("source", ["found", "named", "sketched", "measured", "representation"])
def test_ddp_with_a_static_graph_is_refused(source: str, on_two_ranks: Results) -> None:
    for message, _ in on_two_ranks(under_ddp, source, "static_graph"):
        assert "static_graph=True" in message


def test_a_static_graph_is_right_where_no_leaf_is_written_to(on_two_ranks: Results) -> None:
    (_, first), (_, second) = on_two_ranks(under_ddp, "losses", "static_graph")
    expected = on_two_ranks(under_ddp, "losses", "")[0][1]
    for one, other, right in zip(first, second, expected, strict=True):
        assert np.array_equal(one, other)
        np.testing.assert_allclose(one, right, rtol=1e-9, atol=1e-12)


class Inside(torch.nn.Module):
    """A module whose output is the balanced loss."""

    def __init__(self, model: Model, balancer: gb.Balancer) -> None:
        super().__init__()
        self.model = model
        self.balancer = balancer

    def forward(self, rows: slice) -> torch.Tensor:
        loss: torch.Tensor = self.balancer(losses_of(self.model, rows))
        return loss


def inside_ddp(source: str) -> list[Any]:
    """Three steps with the balanced loss computed inside the module that DDP wraps."""
    model = Model()
    solver = gb.Uniform() if source == "losses" else gb.MGDA()
    inside = Inside(model, gb.Balancer(solver, SOURCES[source](model)))
    ddp = DistributedDataParallel(inside, static_graph=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        ddp(share()).backward()
        optimizer.step()
    return [p.detach().numpy() for p in model.parameters()]


@pytest.mark.parametrize("source", ["losses", "named", "measured", "found"])
def test_a_static_graph_is_right_where_ddp_wraps_the_balanced_loss(
    source: str, on_two_ranks: Results
) -> None:
    plain = on_two_ranks(under_ddp, source, "")
    for found, (_, expected) in zip(on_two_ranks(inside_ddp, source), plain, strict=True):
        for value, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(value, right, rtol=1e-9, atol=1e-12)


def scales_differ() -> tuple[str, bool]:
    model = Model()
    balancer = gb.Balancer(gb.PCGrad(), SOURCES["named"](model))
    loss = balancer(losses_of(model, share()))
    message = message_of(lambda: ((1 + dist.get_rank()) * loss).backward())
    return message, model.trunk[0].weight.grad is None


def test_a_loss_scale_that_differs_is_an_error_on_all(on_two_ranks: Results) -> None:
    for message, untouched in on_two_ranks(scales_differ):
        assert "the gradient that the balanced loss receives must be the same" in message
        assert untouched


def micro_batches(scaled: bool) -> list[Any]:
    model = Model()
    balancer = gb.Balancer(gb.MGDA(), SOURCES["named"](model))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, enabled=scaled)
    rows = share()
    middle = (rows.start + rows.stop) // 2
    halves = (slice(rows.start, middle), slice(middle, rows.stop))
    first, second = (
        {name: loss / 2 for name, loss in losses_of(model, half).items()} for half in halves
    )
    balancer.accumulate(first, loss_scale=scaler.get_scale())
    scaler.scale(balancer(second)).backward()
    report = balancer.report
    average(model)
    factor = 4.0 if scaled else 1.0
    return [*values_of(report), *(p.grad.numpy() / factor for p in model.parameters())]


@pytest.mark.parametrize("scaled", [False, True])
def test_micro_batches_on_several_ranks_make_one_step(scaled: bool, on_two_ranks: Results) -> None:
    model = Model()
    report = gb.Balancer(gb.MGDA()).backward(losses_of(model, slice(0, 8)))
    expected = [*values_of(report), *(p.grad.numpy() for p in model.parameters())]
    for found in on_two_ranks(micro_batches, scaled):
        for value, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(value, right, rtol=1e-9, atol=1e-12)


def overflows_on_rank_1() -> tuple[Any, bool]:
    model = Model()
    balancer = gb.Balancer(gb.GradNorm(), gb.Representation(model.trunk), tasks=TASKS)
    before = balancer.get_extra_state()
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    if dist.get_rank() == 1:  # behind the representation, on this rank only
        model.trunk[0].weight.register_hook(lambda gradient: gradient * torch.inf)
    scaler.scale(balancer(losses_of(model, share()))).backward()
    report = balancer.report
    return report.status, torch.equal(balancer.get_extra_state(), before)


def test_an_overflow_on_one_rank_is_skipped_on_all(on_two_ranks: Results) -> None:
    assert on_two_ranks(overflows_on_rank_1) == [(gb.Status.SKIPPED, True)] * 2


def uneven(source: str) -> list[Any]:
    model = Model()
    balancer = gb.Balancer(gb.MGDA(), SOURCES[source](model))
    rows = slice(0, 5) if dist.get_rank() == 0 else slice(5, 8)
    report = balancer.backward(losses_of(model, rows))
    return values_of(report)


@pytest.mark.parametrize("source", ["named", "representation"])
def test_uneven_batches_weigh_ranks_alike_as_ddp_does(source: str, on_two_ranks: Results) -> None:
    model = Model()
    z, (_, y) = model.trunk(batch()[0]), batch()
    losses = {}
    for name, head, target in zip(TASKS, model.heads, y, strict=True):
        squares = (head(z) - target).square()
        losses[name] = (squares[:5].mean() + squares[5:].mean()) / 2
    kind = gb.Representation() if source == "representation" else SOURCES[source](model)
    passed = z if source == "representation" else None
    report = gb.Balancer(gb.MGDA(), kind).measure(losses, representation=passed)
    for found in on_two_ranks(uneven, source):
        for value, right in zip(found, values_of(report), strict=True):
            np.testing.assert_allclose(value, right, rtol=1e-9, atol=1e-12)


def resume(state: bytes | None, distributed: bool = True) -> Any:
    model = Model()
    source = SOURCES["named"](model)
    balancer = gb.Balancer(gb.GradNorm(lr=0.3), source, distributed=distributed)
    if state is not None:
        saved = torch.frombuffer(bytearray(state), dtype=torch.uint8)
        balancer.load_state_dict({"_extra_state": saved})
    rows = share() if distributed else slice(0, 8)
    report = balancer.backward(losses_of(model, rows))
    return balancer.get_extra_state().numpy().tobytes(), values_of(report)


def resume_of_one() -> Any:
    return resume(resume(None, distributed=False)[0])


def test_a_checkpoint_of_two_ranks_resumes_on_one_and_the_other_way_round(
    on_two_ranks: Results,
) -> None:
    (of_two, _), (same, _) = on_two_ranks(resume, None)
    assert of_two == same
    of_one, _ = resume(None, distributed=False)
    expected = resume(of_one, distributed=False)[1]
    resumed = [resume(of_two, distributed=False), *on_two_ranks(resume_of_one)]
    for _, found in resumed:
        for value, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(value, right, rtol=1e-9)


def alone() -> list[Any]:
    model = Model()
    balancer = gb.Balancer(gb.MGDA(), SOURCES["named"](model), distributed=False)
    if dist.get_rank() == 1:
        return []  # nobody waits for it
    return values_of(balancer.backward(losses_of(model, slice(0, 8))))


def test_a_process_can_be_on_its_own(on_two_ranks: Results) -> None:
    found, _ = on_two_ranks(alone)
    expected = train("named", "MGDA", ddp=False, num_steps=1)
    for value, right in zip(found, expected, strict=False):
        np.testing.assert_allclose(value, right)


def coarsest() -> float:
    unit = 2.0 ** (-8 - 15 * dist.get_rank())
    return Ranks(dist.group.WORLD).agree(losses_of(Model(), share()), TASKS, [], unit)[1]


def test_ranks_learn_of_the_coarsest_rounding(on_two_ranks: Results) -> None:
    assert on_two_ranks(coarsest) == [2.0**-8] * 2


class Counted:
    """Bytes that each collective takes from a rank."""

    def __init__(self) -> None:
        self.bytes: dict[str, int] = {}

    def of(self, name: str, position: int) -> Any:
        collective = getattr(dist, name)

        def counted(*args: Any, **options: Any) -> Any:
            self.bytes[name] = self.bytes.get(name, 0) + args[position].nbytes
            return collective(*args, **options)

        return counted


def bytes_sent(source: str) -> dict[str, int]:
    model = Model()
    counted = Counted()
    with pytest.MonkeyPatch.context() as patch:
        for name, position in (("all_reduce", 0), ("all_to_all_single", 1)):
            patch.setattr(dist, name, counted.of(name, position))
        balancer = gb.Balancer(gb.MGDA(), SOURCES[source](model), tasks=TASKS)
        balancer.backward(losses_of(model, share()))
    return counted.bytes


def test_the_bytes_on_the_wire(on_two_ranks: Results) -> None:
    num_parameters = sum(p.numel() for p in Model().trunk.parameters())
    padded = num_parameters + num_parameters % 2
    # Codes of the tasks; losses with flags, four codes and three numbers; each with a flag.
    small = 8 * (2 + 1) + 8 * (3 * 3 + 4 * 2 + 3 * 2 + 1)
    gram = 8 * (3 * 3 + 1)
    assert on_two_ranks(bytes_sent, "named")[0] == {
        "all_reduce": small + gram,
        "all_to_all_single": 8 * 3 * padded,
    }
    assert on_two_ranks(bytes_sent, "sketched")[0] == {"all_reduce": small + 8 * (3 * 31 + 1)}
    assert on_two_ranks(bytes_sent, "representation")[0] == {"all_reduce": small + gram}


CASES: list[tuple[Any, ...]] = [
    *((absent_on_rank_1, source) for source in ("named", "sketched", "representation")),
    (found_differs,),
    (tasks_differ,),
    *(
        (broken_on_rank_1, what, policy)
        for what in ("loss", "gradient")
        for policy in ("raise", "skip")
    ),
    *((skips_under_ddp, source) for source in SKIPPED_UNDER_DDP),
    *((without_synchronisation, ddp) for ddp in (True, False)),
    *(
        (under_ddp, source, option)
        for source in ("losses", "named", "sketched", "measured", "representation", "found")
        for option in ("", "find_unused_parameters", "static_graph")
    ),
    *((inside_ddp, source) for source in ("losses", "named", "measured", "found")),
    (scales_differ,),
    *((micro_batches, scaled) for scaled in (False, True)),
    (overflows_on_rank_1,),
    *((uneven, source) for source in ("named", "representation")),
    (resume, None),
    (resume_of_one,),
    (alone,),
    (coarsest,),
    *((bytes_sent, source) for source in ("named", "sketched", "representation")),
]
