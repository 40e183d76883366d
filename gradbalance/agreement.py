"""The agreement of the ranks of a `Balancer`: what must be equal is compared before each step."""

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
    """What must be equal on all ranks, and how many steps each rank has taken.

    If one rank alone raises an error and continues, its counts of steps and errors differ from the
    others'. Then the next comparison raises an error on all ranks, which resets the counts, so that
    the ranks are in step again.

    Parameters that are equal at the first step must stay equal; otherwise nothing averages the
    gradients. To check this, two sums over the parameters are compared at the second step, after
    2, 4, 8, … steps, and after every 1024th. If the ranks start with different parameters, a
    warning says so, and they are not compared again.

    Args:
        distributed: the ranks; see `Balancer`.
        built: the solver, the source and the options, as text.
        stay_alike: whether the parameters must be the same on all ranks.

    Attributes:
        tasks: the tasks that the ranks agreed on; None before the first comparison.
    """

    def __init__(
        self, distributed: bool | ProcessGroup, built: str, *, stay_alike: bool = True
    ) -> None:
        self.tasks: tuple[str, ...] | None = None
        self._distributed = distributed
        self._built = re.sub(r" at 0x[0-9a-fA-F]+", "", built)  # addresses differ between processes
        self._loaded = ""
        self._num_steps = 0
        self._num_refused = 0
        self._replicas: Replicas | None = None
        self._compares = stay_alike
        self._alike: bool | None = None  # None before the first step

    @property
    def ranks(self) -> Ranks | None:
        """The processes over which losses and gradients are averaged; None if there is only one."""
        return Ranks.of(self._distributed)

    def loads(self, state: object) -> None:
        """Note a state that was loaded, to be compared between the ranks at the next step."""
        self._loaded = f"state {zlib.crc32(repr(state).encode()):08x}"

    def alone(self) -> "_Alone":
        """A context that counts errors of this rank alone, of which the others cannot know."""
        return _Alone(self)

    def refuses(self) -> None:
        """Count an error that only this rank raises."""
        self._num_refused += 1

    def step_ends(self) -> None:
        """Count a step, once everything is written."""
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
        """Compare the ranks, and average the losses over them.

        Args:
            losses: the losses of this rank, summed over micro-batches.
            tasks: all T tasks.
            gradients: the gradients of this step.
            factor: the gradient that the balanced loss received.
            what: a name for what is done next.

        Returns:
            The losses by task, averaged over the ranks, and the rounding of the least precise
            gradients on any rank. With a single process, its own losses and None.

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
        except ValueError as error:  # the others learn of it first; they would wait for this rank
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
        """Two sums over the parameters; zeros at steps that do not compare them."""
        done = self._num_steps
        pauses = done & (done - 1) != 0 and done % _LONGEST_PAUSE != 0
        if not self._compares or self._alike is False or (self._alike and pauses):
            return 0.0, 0.0
        if self._replicas is None:
            self._replicas = Replicas(gradients.replicas())
        return self._replicas.sums()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to these parameters: a copy has other ones."""
        return {**vars(self), "_replicas": None, "_alike": None}

    def on_losses(
        self, losses: Mapping[str, Tensor], tasks: tuple[str, ...]
    ) -> Mapping[str, Tensor]:
        """The losses after a step, averaged over the ranks if there are several."""
        return self._meet("after_step()", losses, tasks)[0]

    def on_overflow(self, here: bool, losses: Mapping[str, Tensor], tasks: tuple[str, ...]) -> bool:
        """Whether the gradients that a step wrote overflowed on any rank."""
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
        if tasks != self.tasks:  # needs an all-reduce of its own: lengths below depend on the tasks
            ranks.check_same(Common("the tasks", tasks, _NAME_IT), next(iter(losses.values())))
            self.tasks = tasks
        # A copy that has not compared its parameters yet is in another state.
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
            self._num_steps = self._num_refused = 0  # on all ranks
            raise


class _Alone:
    """A context that counts errors; a class takes a third of the time of a generator."""

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
