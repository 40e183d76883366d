"""`diagnose`: look at the gradients of a model's tasks on some batches, and change nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from gradbalance.balancer import Balancer
from gradbalance.diagnosis.findings import Diagnosis, from_gramians
from gradbalance.diagnosis.verdict import verdict_on
from gradbalance.gradients import Request, SharedParameters, Source
from gradbalance.gradients.graph import Graph
from gradbalance.gradients.torch_private import hooks_after_accumulation
from gradbalance.losses import Losses, named_losses
from gradbalance.numerics.array import Array
from gradbalance.solvers import Uniform, UPGrad

Batch = TypeVar("Batch")

_MIN_BATCHES = 4  # two pairs: with one there is no spread
_FORWARD, _PLAIN, _EXACT = "forward pass", "plain sum", "exact"


def diagnose(
    losses: Callable[[Batch], Losses],
    batches: Iterable[Batch],
    source: SharedParameters | None = None,
    *,
    compared: Mapping[str, Source] | None = None,
    num_batches: int = 32,
) -> Diagnosis:
    r"""What would balancing change on this model? Looks at some batches, and writes nothing.

    .. math:: G = J J^\top, \qquad J = \begin{pmatrix} J^a \\ J^b \end{pmatrix} [2T, P]

    Batches are taken in pairs a, b, and the gradients of both stand in one Gramian G [2T, 2T]. What
    two batches agree on is the tasks'; what they do not is noise. The answer says which tasks carry
    the gradient, which conflict and how sure that is, whether the plain sum of the losses raises
    one, what a cheaper source of gradients would see, what each costs, and what to try.

    No `.grad` changes, and no parameter. The forward passes are your own: they draw random numbers
    (dropout) and move running statistics (batch normalisation), as any forward pass in the model's
    mode does. The model is looked at where it stands: ask again after some training.
    It keeps 2T rows of the shared parameters, and runs 3 forward passes a batch and one more for
    each compared source. Steps are not timed where a hook on a parameter acts on a finished
    `.grad`, as an optimizer in the backward does. Each process looks at its own batches.

    Args:
        losses: the forward pass: a batch to the losses, by name, in order or as one [T] tensor. A
            batch is whatever you pass on, so tasks with data of their own take a tuple of batches.
        batches: different draws of the training data, at least 4, of the size that you train with:
            your `DataLoader` will do. With an odd number the last one is left out.
        source: what the tasks share, `SharedParameters(model.trunk)`; by default it is found.
        compared: other sources by name, to be held against the exact gradients, for example
            `{"last layer": SharedParameters(model.trunk, measure=model.trunk[-1])}`.
        num_batches: take so many from `batches`, at most.

    Raises:
        ValueError: there are fewer than 4 batches or 2 tasks, the tasks change from batch to batch,
            a source cannot be used, or a loss or gradient is not finite.

    Example:
        >>> import torch, gradbalance as gb
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Linear(4, 1)
        >>> def losses(x):
        ...     y = model(x)[:, 0]
        ...     return {"metres": (y - x[:, 0]).square().mean(),
        ...             "millimetres": (1000 * (y - x[:, 0])).square().mean()}
        >>> diagnosis = gb.diagnose(losses, torch.randn(8, 64, 4))
        >>> print(diagnosis.verdict[0])
        `millimetres` carries >99.9 % of the gradient: its norm is 1e+06 times that of `metres`.
    """
    compared = dict(compared or {})
    _check(losses, source, compared, num_batches)
    taken = list(islice(batches, num_batches))
    if len(taken) < _MIN_BATCHES:
        raise ValueError(
            f"batches must be at least {_MIN_BATCHES} draws of the data, for two pairs; found "
            f"{len(taken)}. Pass a DataLoader, or a list of batches"
        )
    taken = taken[: len(taken) // 2 * 2]
    model = _Model(losses, source, compared)
    with torch.enable_grad():
        try:
            for index in range(0, len(taken), 2):
                model.look(taken[index], taken[index + 1], index)
                for batch in taken[index : index + 2]:
                    model.time(batch)
        finally:
            model.release()
    assert model.names is not None
    found = from_gramians(
        model.names,
        np.array(model.losses),
        np.array(model.grams),
        {name: np.array(cosines) for name, cosines in model.cosines.items()},
        # The first step of each is a warm-up.
        {name: 1e3 * float(np.median(times[1:])) for name, times in model.seconds.items()},
    )
    return replace(found, verdict=verdict_on(found))


class _Model:
    """The user's losses, and what was seen of them so far.

    Args:
        forward: from a batch to its losses.
        source: what the tasks share; None to find it.
        compared: other sources.

    Attributes:
        names: the tasks, once a batch was seen.
        losses: of each batch [T].
        grams: of each pair of batches [2T, 2T].
        cosines: by compared source, of each batch [T, T].
        seconds: by what was timed, of each batch.
    """

    def __init__(
        self,
        forward: Callable[[Any], Losses],
        source: SharedParameters | None,
        compared: Mapping[str, Source],
    ) -> None:
        self.names: tuple[str, ...] | None = None
        self.losses: list[Array] = []
        self.grams: list[Array] = []
        self.cosines: dict[str, list[Array]] = {name: [] for name in compared}
        self.seconds: dict[str, list[float]] = {
            name: [] for name in (_FORWARD, _PLAIN, _EXACT, *compared)
        }
        self._forward = forward
        self._source = SharedParameters() if source is None else source
        self._found: dict[Tensor, None] = {}
        self._compared = {
            name: Balancer(UPGrad(), other, distributed=False) for name, other in compared.items()
        }

    def look(self, first: object, second: object, index: int) -> None:
        """Measure a pair of batches, the first of which has this index."""
        joined: dict[str, Tensor] = {}
        for number, batch in enumerate((first, second), start=index):
            named = self._losses_of(batch)
            self._find(named)
            for name, balancer in self._compared.items():
                cosines = balancer.measure(named).cosines
                assert cosines is not None
                self.cosines[name].append(cosines)
            # Told apart by their ends, so that they cannot collide; an error names the batch.
            joined |= {f"{task} (batch {number})": loss for task, loss in named.items()}
        report = Balancer(Uniform(), self._exact(), heads="raw", distributed=False).measure(joined)
        assert report.gram is not None
        self.grams.append(report.gram)
        self.losses += np.split(report.losses, 2)

    def time(self, batch: object) -> None:
        """Take every kind of step on a batch, one beside the other."""
        exact = Balancer(UPGrad(), self._exact(), distributed=False)
        steps: dict[str, Callable[[dict[str, Tensor]], object]] = {
            _PLAIN: lambda named: torch.autograd.backward(list(named.values())),
            _EXACT: exact.backward,
            **{name: balancer.backward for name, balancer in self._compared.items()},
        }
        for name, step in steps.items():
            start = _clock()
            named = self._losses_of(batch)
            if name == _PLAIN:
                self.seconds[_FORWARD].append(_clock() - start)
            leaves = list(Graph(named).reached_by)
            if any(map(hooks_after_accumulation, leaves)):
                self.seconds[name].append(float("nan"))
                continue
            with _grads_put_aside(leaves):
                start = _clock()
                step(named)
                self.seconds[name].append(_clock() - start)

    def release(self) -> None:
        """Let sources go of what they captured from earlier forward passes."""
        for balancer in self._compared.values():
            balancer.source.commit(None, freed=True)

    def _losses_of(self, batch: object) -> dict[str, Tensor]:
        self.release()
        named, _ = named_losses(self._forward(batch), None)
        tasks = tuple(named)
        if self.names is None:
            if len(tasks) < 2:
                raise ValueError(f"there is nothing to balance: found one task, {tasks[0]!r}")
            self.names = tasks
        if set(tasks) != set(self.names):
            raise ValueError(
                f"every batch must have all tasks; found {list(tasks)} after {list(self.names)}. A "
                "batch may be a tuple: of one batch for each task, where tasks have their own data"
            )
        return {task: named[task] for task in self.names}

    def _find(self, named: dict[str, Tensor]) -> None:
        """What the losses of one batch share; those of two would reach every head twice."""
        request = Request("raw", tasks=tuple(named))
        shared = self._source.open(named, request).shared
        if shared.found is None:  # it is named
            return
        if repr(self._source) != "SharedParameters()":
            raise ValueError(
                "source must name what is shared where it has options, SharedParameters("
                f"model.trunk, ...); found {self._source!r}"
            )
        self._found |= dict.fromkeys(shared.groups[0])

    def _exact(self) -> SharedParameters:
        return SharedParameters(list(self._found)) if self._found else self._source


def _check(
    losses: object, source: object, compared: Mapping[str, Source], num_batches: object
) -> None:
    if not callable(losses):
        raise ValueError(
            f"losses must be a function from a batch to its losses; found a {type(losses).__name__}"
        )
    if isinstance(num_batches, bool) or not isinstance(num_batches, int) or num_batches < 4:
        raise ValueError(f"num_batches must be a whole number, at least 4; found {num_batches!r}")
    if source is not None and not isinstance(source, SharedParameters):
        raise ValueError(
            "source must be SharedParameters(model.trunk), or None to find what is shared; found "
            f"{source!r}. Others go into compared="
        )
    for name, other in compared.items():
        if name in (_FORWARD, _PLAIN, _EXACT):
            raise ValueError(f"compared must not use the name {name!r}; choose another one")
        if not isinstance(other, Source) or not other.measures_gramian:
            raise ValueError(
                f"compared[{name!r}] must be a source of gradients such as "
                f"Representation(model.trunk); found {other!r}"
            )


@contextmanager
def _grads_put_aside(leaves: list[Tensor]) -> Iterator[None]:
    """Inside, the leaves have no `.grad`; afterwards each has the very one that it had."""
    kept = [leaf.grad for leaf in leaves]
    try:
        for leaf in leaves:
            leaf.grad = None
        yield
    finally:
        for leaf, grad in zip(leaves, kept, strict=True):
            leaf.grad = grad


def _clock() -> float:
    """Seconds, once all work on an accelerator is done."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()
