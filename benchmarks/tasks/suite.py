"""The interface of a suite: a model, batches, the losses of its tasks, and its metrics."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

Split = Literal["validation", "test"]


@dataclass(frozen=True)
class Metric:
    """How to read a metric.

    Attributes:
        unit: the unit of the number, such as "%".
        higher_is_better: whether higher values are better; otherwise lower ones are.
    """

    unit: str
    higher_is_better: bool

    @property
    def arrow(self) -> str:
        """An arrow in the direction of better values."""
        return "↑" if self.higher_is_better else "↓"


class Suite(ABC):
    """Several tasks that one model learns; a new suite is a module with a subclass.

    All random numbers can be repeated: `build` uses torch's global generator, which the caller has
    seeded, and `batches` uses its seed.

    Attributes:
        tasks: the tasks, each of which has a loss.
        metrics: the metrics that are measured at the end, by name.
        num_steps: number of steps of a run.
        alone: whether each task can be learned without the others. If so, Δm compares with the
            results of single-task training, and otherwise with the plain sum.
    """

    tasks: tuple[str, ...]
    metrics: Mapping[str, Metric]
    num_steps: int
    alone: bool = True

    @abstractmethod
    def build(self, tasks: Sequence[str]) -> nn.Module:
        """A new model for these tasks: all of them, or a single one."""

    @abstractmethod
    def batches(self, seed: int) -> Iterator[Any]:
        """An endless iterator over training batches."""

    @abstractmethod
    def losses(self, model: nn.Module, batch: Any) -> dict[str, Tensor | None]:
        """The losses of the model's tasks; None for a task without a label in this batch."""

    @abstractmethod
    def measure(self, model: nn.Module, split: Split) -> dict[str, float]:
        """The metrics of the model's tasks on data that it was not trained on."""
