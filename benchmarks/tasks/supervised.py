"""Classification and regression suites: one input, several labels, one linear head per task."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.tasks.suite import Metric, Split, Suite

BATCH_SIZE = 64


@dataclass(frozen=True)
class Classes:
    """A classification task with cross-entropy; its metric is the accuracy."""

    number: int
    metric = Metric("%", higher_is_better=True)

    @property
    def num_outputs(self) -> int:
        return self.number

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(output, target)

    def measure(self, output: Tensor, target: Tensor) -> float:
        return 100 * float((output.argmax(1) == target).double().mean())


@dataclass(frozen=True)
class Number:
    """A regression task with squared error; its metric is the mean absolute error.

    The head predicts the number in standard deviations from the mean, so that every number is
    equally easy to reach; the unit changes only the loss.

    Attributes:
        mean: mean of the training targets.
        deviation: standard deviation of the training targets.
        raw: whether the loss is in the number's own unit; otherwise in standard deviations.
    """

    mean: float
    deviation: float
    raw: bool
    metric = Metric("MAE", higher_is_better=False)
    num_outputs = 1

    @classmethod
    def of(cls, targets: Tensor, *, raw: bool) -> "Number":
        """The task for these training targets; NaN stands for a missing target."""
        known = targets[~targets.isnan()].double()
        return cls(float(known.mean()), float(known.std()), raw)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        unit = self.deviation if self.raw else 1.0
        return (unit * (output[:, 0] - (target - self.mean) / self.deviation)).square().mean()

    def measure(self, output: Tensor, target: Tensor) -> float:
        told = self.mean + self.deviation * output[:, 0].double()
        return float((told - target).abs().mean())


@dataclass(frozen=True)
class Labelled:
    """Inputs [N, ...] and the labels [N] of each task; NaN stands for a missing number."""

    inputs: Tensor
    labels: Mapping[str, Tensor]

    def chosen(self, indexes: Tensor) -> "Labelled":
        """The inputs and labels with these indexes."""
        return Labelled(self.inputs[indexes], {t: y[indexes] for t, y in self.labels.items()})


@final
class SharedTrunk(nn.Module):
    """A trunk, with one linear head per task on its output."""

    def __init__(self, trunk: nn.Module, width: int, outputs: Mapping[str, int]) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict({task: nn.Linear(width, n) for task, n in outputs.items()})

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        z = self.trunk(inputs)
        return {task: head(z) for task, head in self.heads.items()}


@final
class Supervised(Suite):
    """A suite with supervised tasks on given data.

    Args:
        kinds: the type of each task.
        train: the training data; batches are drawn from it with replacement.
        held_out: the data for the metrics, by split.
        trunk: makes a trunk.
        width: width of the trunk's output.
        num_steps: number of steps of a run.
    """

    def __init__(
        self,
        kinds: Mapping[str, Classes | Number],
        train: Labelled,
        held_out: Mapping[Split, Labelled],
        *,
        trunk: Callable[[], nn.Module],
        width: int,
        num_steps: int,
    ) -> None:
        self.tasks = tuple(kinds)
        self.metrics = {task: kind.metric for task, kind in kinds.items()}
        self.num_steps = num_steps
        self._kinds = kinds
        self._train = train
        self._held_out = held_out
        self._trunk = trunk
        self._width = width

    def build(self, tasks: Sequence[str]) -> nn.Module:
        outputs = {task: self._kinds[task].num_outputs for task in tasks}
        return SharedTrunk(self._trunk(), self._width, outputs)

    def batches(self, seed: int) -> Iterator[Labelled]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            number = len(self._train.inputs)
            yield self._train.chosen(torch.randint(number, (BATCH_SIZE,), generator=generator))

    def losses(self, model: nn.Module, batch: Labelled) -> dict[str, Tensor | None]:
        outputs = model(batch.inputs)
        return {task: self._loss(task, output, batch) for task, output in outputs.items()}

    def _loss(self, task: str, output: Tensor, batch: Labelled) -> Tensor | None:
        target = batch.labels[task]
        known = ~target.isnan()
        if known.all():
            return self._kinds[task].loss(output, target)
        return self._kinds[task].loss(output[known], target[known]) if known.any() else None

    def measure(self, model: nn.Module, split: Split) -> dict[str, float]:
        data = self._held_out[split]
        with torch.no_grad():
            outputs = model(data.inputs)
        return {t: self._kinds[t].measure(o, data.labels[t]) for t, o in outputs.items()}
