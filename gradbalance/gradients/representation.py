"""Gradients with respect to a shared representation: MGDA-UB's cheap source."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from gradbalance.gradients.autograd import accumulate, differentiate
from gradbalance.gradients.graph import Graph
from gradbalance.gradients.heads import HeadGradients
from gradbalance.gradients.ranks import Ranks
from gradbalance.gradients.rows import Rows
from gradbalance.gradients.sharded_rows import sharded_among
from gradbalance.gradients.source import Heads, Source, TaskGradients
from gradbalance.gradients.weighted_sum import WeightedSum


@final
class Representation(Source):
    r"""The Gramian over a representation Z that all tasks share; one backward through the trunk.

    .. math::
        J_i = \nabla_Z L_i, \qquad G = J J^\top, \qquad
        \texttt{.grad}_\theta \mathrel{+}=
        \Big(\frac{\partial Z}{\partial \theta}\Big)^{\!\top} \sum_i w_i \nabla_Z L_i

    with Z the output of a module for one batch, flattened over batch and features (rows of
    J [T, numel(Z)]), and θ the trunk's parameters. Costs T backwards through the heads and one
    through the trunk. With MGDA this is MGDA-UB (arXiv 1810.04650): ‖Jᵀw‖ bounds the norm in
    parameter space from above up to a factor, but nothing is promised there: the direction of the
    parameters may conflict with a task. What a task reaches without passing Z is its head.

    Args:
        module: the trunk, whose output is captured at each forward pass under enabled gradients.
            None where the representation is passed: `balancer.backward(losses, representation=z)`.

    Raises:
        ValueError: at a step: nothing was captured, more than one forward pass was, the output is
            not a tensor (or a sequence of tensors) with a graph, a loss does not reach it, or one
            reaches the trunk by another path as well.

    Example:
        >>> import torch, gradbalance as gb
        >>> trunk, heads = torch.nn.Linear(3, 2), [torch.nn.Linear(2, 1) for _ in range(2)]
        >>> balancer = gb.Balancer(gb.MGDA(), gb.Representation(trunk))
        >>> z = trunk(torch.ones(4, 3))
        >>> report = balancer.backward([head(z).square().mean() for head in heads])
        >>> trunk.weight.grad.shape
        torch.Size([2, 3])
    """

    measures_gramian: ClassVar[bool] = True
    groups = ("",)
    accumulates = False

    def __init__(self, module: nn.Module | None = None) -> None:
        if module is not None and not isinstance(module, nn.Module):
            raise ValueError(f"Representation needs a module; found a {type(module).__name__}")
        if module is not None and sharded_among(list(module.parameters())):
            raise ValueError(
                "Representation cannot differentiate heads that FSDP2 shards; found a sharded "
                "trunk. Use SharedParameters(model.trunk, sharded=model)"
            )
        self._captured: Any = None  # the latest output only: older ones would hold their graphs
        self._num_captures = 0
        self._measured = False
        if module is not None:
            module.register_forward_hook(self._capture)

    def _capture(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if torch.is_grad_enabled():
            if self._measured:
                self._forget()
            self._captured = output
            self._num_captures += 1

    def _forget(self) -> None:
        self._captured, self._num_captures, self._measured = None, 0, False

    def provide(self, representation: Tensor | Sequence[Tensor]) -> None:
        """Use this representation at the next step, whatever was captured."""
        self._captured, self._num_captures, self._measured = representation, 1, False

    def measure(
        self, losses: Mapping[str, Tensor], *, heads: Heads, retain_graph: bool
    ) -> dict[str, TaskGradients]:
        """Differentiate every loss as far as the representation."""
        tensors = self._take(keep=retain_graph)
        rows = _RepresentationRows(losses, tensors, heads=heads, retain_graph=retain_graph)
        return {"": rows}

    def reuse(
        self, losses: Mapping[str, Tensor], *, heads: Heads, retain_graph: bool
    ) -> dict[str, TaskGradients]:
        """One weighted backward; a second through the heads where they stay raw."""
        tensors = self._take(keep=retain_graph)
        if heads == "weighted":
            return {"": WeightedSum(losses, retain_graph=retain_graph)}
        own = {leaf: None for leaves in _leaves_before(losses, tensors).values() for leaf in leaves}
        behind = list(_leaves_behind(tensors).values())
        once = WeightedSum(losses, weighted=behind, raw=list(own), retain_graph=retain_graph)
        return {"": once}

    def _take(self, *, keep: bool) -> list[Tensor]:
        """The representation of this step, which is forgotten unless it is to serve once more."""
        captured, num_captures = self._captured, self._num_captures
        if keep and num_captures == 1:
            # The same capture serves the backward that may follow, until the next forward pass.
            self._measured = True
        else:
            self._forget()
        if num_captures != 1:
            raise ValueError(
                "a step needs exactly one representation; found "
                + (f"{num_captures} forward passes" if num_captures else "none")
                + " since the last step. Run the trunk once, under enabled gradients, or pass "
                "backward(losses, representation=z)"
            )
        return _tensors_of(captured)


class _RepresentationRows(TaskGradients):
    """One row a task over the representation; the trunk is differentiated once."""

    def __init__(
        self,
        losses: Mapping[str, Tensor],
        representation: list[Tensor],
        *,
        heads: Heads,
        retain_graph: bool,
    ) -> None:
        self._representation = representation
        self._retain_graph = retain_graph
        self._rows = Rows(representation, losses)
        self._heads = HeadGradients(heads)
        own = _leaves_before(losses, representation)
        last = list(losses)[-1]
        for task, loss in losses.items():
            gradients = differentiate(
                task, loss, [*representation, *own[task]], retain_graph=retain_graph or task != last
            )
            self._rows.fill(task, gradients[: len(representation)])
            self._heads.keep(task, own[task], gradients[len(representation) :])

    num_columns = 0

    def gram(self, tasks: Sequence[str], ranks: Ranks | None = None) -> Tensor:
        gram = self._rows.gram(tasks)
        # The ranks' samples are different columns of one long row, each 1/N of the mean loss.
        return gram if ranks is None else ranks.add_up(gram) / ranks.size**2

    def backward(self, weights: Mapping[str, float], *, zeros: bool = False) -> None:
        accumulate(
            self._representation, self._rows.combine(weights), retain_graph=self._retain_graph
        )
        self._heads.accumulate(weights, zeros=zeros)


def _leaves_before(
    losses: Mapping[str, Tensor], representation: list[Tensor]
) -> dict[str, list[Tensor]]:
    """The leaves between each loss and the representation: the head's parameters."""
    graph = Graph(losses, stop=representation)
    graph.check_ddp()
    behind = _leaves_behind(representation)
    for task in losses:
        if not graph.reached[task]:
            raise ValueError(
                f"the loss of task {task!r} does not depend on the representation; every task must "
                "be computed from it"
            )
        around = [tuple(t.shape) for key, t in graph.leaves[task].items() if key in behind]
        if around:
            raise ValueError(
                f"task {task!r} reaches parameters of shapes {around} both through the "
                "representation and around it; use SharedParameters() instead"
            )
    return {task: list(leaves.values()) for task, leaves in graph.leaves.items()}


def _leaves_behind(representation: list[Tensor]) -> dict[int, Tensor]:
    """The leaves behind the representation: the trunk's parameters."""
    behind: dict[int, Tensor] = {}
    for leaves in Graph({str(i): z for i, z in enumerate(representation)}).leaves.values():
        behind |= leaves
    return behind


def _tensors_of(representation: Any) -> list[Tensor]:
    tensors = [representation] if isinstance(representation, Tensor) else representation
    if not isinstance(tensors, list | tuple) or not all(isinstance(t, Tensor) for t in tensors):
        raise ValueError(
            "a representation is a tensor or a sequence of tensors; found a "
            f"{type(representation).__name__}. Pass backward(losses, representation=z)"
        )
    differentiable = [t for t in tensors if t.requires_grad]
    if not differentiable:
        raise ValueError(
            "the representation does not require gradients; found a trunk that is frozen or ran "
            "without gradients"
        )
    return differentiable
