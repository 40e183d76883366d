"""Where the ranks of a `Balancer` meet: what they must have in common is told before each step."""

import re
import warnings
import zlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from torch import Tensor
from torch.distributed import ProcessGroup

from gradbalance.gradients import TaskGradients
from gradbalance.gradients.ranks import Common, Ranks, RanksError
from gradbalance.gradients.replicas import Replicas, alike

_ALONE = (
    "A rank that catches an error which the others do not see, or that calls something else, is "
    "out of step with them: let an error end all ranks, or catch it on all"
)
_NAME_IT = (
    "Name the tasks, Balancer(tasks=[...]), and what they share, SharedParameters(model.trunk): a "
    "rank that lacks a task, or takes another way through the model, may find something else"
)
_ALIKE = "Build the Balancer alike on all ranks, and load the same state on all, that of rank 0"
_SCALE = "Use one loss scale on all ranks"
_DRIFT = (
    "the ranks' parameters were the same at the first step and are not after {num_steps}: nothing "
    "averaged their gradients. Wrap the model in DistributedDataParallel and call that, or average "
    ".grad before the optimizer's step. A framework that owns the backward must be given the loss: "
    "return balancer(losses), self.manual_backward(balancer(losses)), "
    "fabric.backward(balancer(losses)). Where ranks are to differ, as in local SGD: "
    'Balancer(replicas="apart")'
)
_BEGIN_APART = (
    "the ranks begin with other parameters, so whether something averages their gradients cannot "
    "be seen. DistributedDataParallel gives all ranks those of rank 0. Where they are meant to "
    'differ: Balancer(replicas="apart")'
)
_SEEN = {None: "not compared yet", True: "alike", False: "apart from the start"}
_LONGEST_PAUSE = 1024  # Steps from one comparison of the parameters to the next.


class Agreement:
    """What the ranks must have in common, and where each of them stands.

    A rank that raised an error alone, and went on, has not counted what the others have; so the
    next meeting is an error on all of them, and from there on they go together again.

    Parameters that were alike at the first step must stay so, or nothing averages the gradients:
    two sums over them are compared at the second step, after 2, 4, 8 and so on, and after every
    1024th. Where ranks begin with others, a warning says so, and they are not compared again.

    Args:
        distributed: the ranks; see `Balancer`.
        built: the solver, the source and the options, as a text.
        stay_alike: whether the parameters are to be the same on all ranks.

    Attributes:
        tasks: those that the ranks agreed on; None before their first meeting.
    """

    def __init__(
        self, distributed: bool | ProcessGroup, built: str, *, stay_alike: bool = True
    ) -> None:
        self.tasks: tuple[str, ...] | None = None
        self._distributed = distributed
        self._built = re.sub(r" at 0x[0-9a-fA-F]+", "", built)  # an address is each process's own
        self._loaded = ""
        self._num_steps = 0
        self._num_refused = 0
        self._replicas: Replicas | None = None
        self._compares = stay_alike
        self._alike: bool | None = None  # None before the first step

    @property
    def ranks(self) -> Ranks | None:
        """The processes over which losses and gradients are means; None where there is but one."""
        return Ranks.of(self._distributed)

    def loads(self, state: object) -> None:
        """Compare a state that was loaded, at the next meeting."""
        self._loaded = f"state {zlib.crc32(repr(state).encode()):08x}"

    def alone(self) -> "_Alone":
        """Count what this rank refuses before it meets the others, who cannot know of it."""
        return _Alone(self)

    def refuses(self) -> None:
        """Count an error that the other ranks do not see."""
        self._num_refused += 1

    def step_ends(self) -> None:
        """Count a step that was taken, once all is written."""
        self._num_steps += 1

    def on_step(
        self,
        losses: Mapping[str, Tensor],
        tasks: tuple[str, ...],
        gradients: TaskGradients,
        factor: float,
        *,
        what: str = "a step",
    ) -> tuple[Mapping[str, Tensor], float | None]:
        """The losses that count, by task: of this process, or the means over the ranks.

        With them the rounding of the coarsest gradients of any rank; None where there is but one.

        Args:
            losses: of this rank, micro-batches added up.
            tasks: all T tasks.
            gradients: of this step.
            factor: the gradient that the balanced loss received.
            what: is to be done.

        Raises:
            ValueError: on every rank, if they disagree.
        """
        if self.ranks is None:
            return losses, None
        refused, rounding, sums = None, 0.0, (0.0, 0.0)
        try:
            shapes = gradients.shapes()
            rounding = gradients.rounding
            sums = self._sums(gradients)
        except ValueError as error:  # told to the others first, who would wait for this rank
            refused, shapes = error, str(error)
        try:
            means, coarsest, told = self._meet(what, losses, tasks, shapes, factor, rounding, sums)
        except RanksError as error:
            raise refused or error from None
        if refused is not None:
            raise refused
        same = alike(told)
        if self._alike and not same:
            raise RanksError(_DRIFT.format(num_steps=self._num_steps))
        if self._alike is None:
            self._alike = same
            if not same:
                warnings.warn(_BEGIN_APART, stacklevel=2)
        return means, coarsest

    def _sums(self, gradients: TaskGradients) -> tuple[float, float]:
        """Over the parameters, where they are to be compared."""
        done = self._num_steps
        pauses = done & (done - 1) != 0 and done % _LONGEST_PAUSE != 0
        if not self._compares or self._alike is False or (self._alike and pauses):
            return 0.0, 0.0
        if self._replicas is None:
            self._replicas = Replicas(gradients.replicas())
        return self._replicas.sums()

    def __getstate__(self) -> dict[str, Any]:
        """A copy is of other parameters."""
        return {**vars(self), "_replicas": None, "_alike": None}

    def on_losses(
        self, losses: Mapping[str, Tensor], tasks: tuple[str, ...]
    ) -> Mapping[str, Tensor]:
        """The losses after a step, of this process or the means over the ranks."""
        return self._meet("after_step()", losses, tasks)[0]

    def on_overflow(self, here: bool, losses: Mapping[str, Tensor], tasks: tuple[str, ...]) -> bool:
        """Whether what a step wrote overflowed on any rank."""
        return self._meet("the end of a step", losses, tasks, number=float(here))[1] > 0

    def _meet(
        self,
        what: str,
        losses: Mapping[str, Tensor],
        tasks: tuple[str, ...],
        shapes: object = None,
        factor: float = 1.0,
        number: float = 0.0,
        told: tuple[float, float] = (0.0, 0.0),
    ) -> tuple[Mapping[str, Tensor], float, list[tuple[float, ...]]]:
        ranks = self.ranks
        if ranks is None:
            return losses, number, [told]
        if tasks != self.tasks:  # an all-reduce of their own: their number is a length below
            ranks.check_same(Common("the tasks", tasks, _NAME_IT), next(iter(losses.values())))
            self.tasks = tasks
        # A copy, which has not compared parameters yet, is not at the same point.
        where = (
            f"{what} after {self._num_steps} steps and {self._num_refused} refusals, "
            f"parameters {_SEEN[self._alike]}"
        )
        common = [
            Common("what is done", where, _ALONE),
            Common("the solver, the options and the state", (self._built, self._loaded), _ALIKE),
            Common("the parameters that the tasks share", shapes, _NAME_IT),
            Common("the gradient that the balanced loss receives", factor, _SCALE),
        ]
        try:
            return ranks.agree(losses, tasks, common, number, told)
        except RanksError:
            self._num_steps = self._num_refused = 0  # on all of them
            raise


class _Alone:
    """A context in which errors are counted; a class takes a third of a generator's time."""

    def __init__(self, agreement: Agreement) -> None:
        self._agreement = agreement

    def __enter__(self) -> None:
        return

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception):
            self._agreement.refuses()
