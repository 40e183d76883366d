"""What a suite is: a model, batches, the losses of its tasks, and measures of how well it does."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

Split = Literal["validation", "test"]


@dataclass(frozen=True)
class Metric:
    """How a number is read.

    Attributes:
        unit: of the number, such as "%".
        higher_is_better: or lower.
    """

    unit: str
    higher_is_better: bool

    @property
    def arrow(self) -> str:
        """Where better is."""
        return "↑" if self.higher_is_better else "↓"


class Suite(ABC):
    """Several tasks that one model learns; a new suite is a module that derives one.

    Nothing here draws from a generator of its own: `build` from torch's, which the caller has
    seeded, and `batches` from its seed.

    Attributes:
        tasks: what has a loss.
        metrics: what is measured in the end, by name.
        num_steps: of a run.
        alone: whether each task can be learned without the others; what it reaches then is what Δm
            compares with. Otherwise Δm compares with the plain sum.
    """

    tasks: tuple[str, ...]
    metrics: Mapping[str, Metric]
    num_steps: int
    alone: bool = True

    @abstractmethod
    def build(self, tasks: Sequence[str]) -> nn.Module:
        """A fresh model of these tasks, of all or of one."""

    @abstractmethod
    def batches(self, seed: int) -> Iterator[Any]:
        """Training batches without end."""

    @abstractmethod
    def losses(self, model: nn.Module, batch: Any) -> dict[str, Tensor | None]:
        """The losses of the model's tasks; None for one without a label in this batch."""

    @abstractmethod
    def measure(self, model: nn.Module, split: Split) -> dict[str, float]:
        """The metrics of the model's tasks on data that it was not trained on."""
