"""Gradients with respect to a shared representation: MGDA-UB's cheap source."""

import weakref
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from gradbalance.eager import eager
from gradbalance.gradients.graph import Graph
from gradbalance.gradients.graph_gradients import GraphGradients, Keeping, Shared
from gradbalance.gradients.hidden import check_differentiable
from gradbalance.gradients.micro_batches import Reached
from gradbalance.gradients.parameters import check_whole
from gradbalance.gradients.source import Request, StatelessSource, TaskGradients


@final
class Representation(StatelessSource):
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
    Tasks that have samples of their own (a data set each) have no entry of Z in common, and so
    nothing to compare: a warning says so, and `SharedParameters` is for them.

    Args:
        module: the trunk, whose output is captured at each forward pass under enabled gradients,
            until a step used it, `close()` was called, or the source is gone. None where the
            representation is passed: `balancer(losses, representation=z)`.

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
    accumulates: ClassVar[bool] = False
    takes_representation: ClassVar[bool] = True
    groups = ()

    def __init__(self, module: nn.Module | None = None) -> None:
        if module is not None and not isinstance(module, nn.Module):
            raise ValueError(f"Representation needs a module; found a {type(module).__name__}")
        if module is not None:
            check_whole(list(module.parameters()))
        self._module = module
        self._listen()
        self._text = "" if module is None else type(module).__name__

    def _listen(self) -> None:
        self._captured: Any = None  # the latest output only: older ones would hold their graphs
        self._num_captures = 0
        self._used = False
        if self._module is not None:
            handle = self._module.register_forward_hook(_Capture(self))
            self._end = weakref.finalize(self, handle.remove)

    def close(self) -> None:
        """Stop listening to the module, and let go of what was captured; for good."""
        self._release()
        if self._module is not None:
            self._end()

    def __getstate__(self) -> dict[str, Any]:
        return {
            "module": self._module,
            "text": self._text,
        }  # a copy listens to the module that is copied with it

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._module, self._text = state["module"], state["text"]
        self._listen()

    def _capture(self, output: Any) -> None:
        if self._used:
            self._release()
        self._captured = output
        self._num_captures += 1

    def _release(self) -> None:
        self._captured, self._num_captures, self._used = None, 0, False

    def open(self, losses: Mapping[str, Tensor], request: Request) -> TaskGradients:
        """Over the representation and the heads' leaves."""
        captured, num_captures = self._captured, self._num_captures
        if request.representation is not None:
            captured, num_captures = request.representation, 1
        # The same capture may serve a measured step and the one that follows.
        self._used = True
        if num_captures != 1:
            self._release()
            raise ValueError(
                "a step needs exactly one representation; found "
                + (f"{num_captures} forward passes" if num_captures else "none")
                + " since the last step. Run the trunk once, under enabled gradients, or pass it: "
                "balancer(losses, representation=z)"
            )
        tensors = _tensors_of(captured)
        graph = _graph_before(losses, tensors)
        check_whole(graph.reached_by)

        def share(reached: Reached, tasks: Sequence[str]) -> Shared:
            return Shared([tensors], [tensors], reached)

        ends = [*tensors, *graph.reached_by]
        keeping = Keeping(samples_are_columns=True)
        return GraphGradients(losses, graph, ends, share, request, keeping)

    def commit(self, gradients: TaskGradients | None, *, freed: bool) -> None:
        """Let go of the representation, unless another forward pass came after it."""
        if freed and (self._used or gradients is None):
            self._release()


class _Capture:
    """The hook of a `Representation`, which holds it weakly and is not copied with a module."""

    def __init__(self, source: Representation | None = None) -> None:
        self._source = None if source is None else weakref.ref(source)

    @eager
    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        source = None if self._source is None else self._source()
        if source is not None and torch.is_grad_enabled():
            source._capture(output)

    def __reduce__(self) -> tuple[type["_Capture"], tuple[()]]:
        return _Capture, ()


def _graph_before(losses: Mapping[str, Tensor], representation: list[Tensor]) -> Graph:
    """The graph between the losses and the representation, whose leaves are the heads'."""
    graph = Graph(losses, stop=representation)
    check_differentiable(graph)
    behind = Graph({str(i): z for i, z in enumerate(representation)}).reached_by
    for task in losses:
        if not graph.reached[task]:
            raise ValueError(
                f"the loss of task {task!r} does not depend on the representation; every task must "
                "be computed from it. Where torch.compile or DDP hides that it is, "
                "use SharedParameters(model.trunk)"
            )
        around = [tuple(leaf.shape) for leaf in graph.leaves(task) if leaf in behind]
        if around:
            raise ValueError(
                f"task {task!r} reaches parameters of shapes {around} both through the "
                "representation and around it; use SharedParameters() instead"
            )
    return graph


def _tensors_of(representation: Any) -> list[Tensor]:
    tensors = [representation] if isinstance(representation, Tensor) else representation
    if not isinstance(tensors, list | tuple) or not all(isinstance(t, Tensor) for t in tensors):
        raise ValueError(
            "a representation is a tensor or a sequence of tensors; found a "
            f"{type(representation).__name__}. Pass balancer(losses, representation=z)"
        )
    differentiable = [t for t in tensors if t.requires_grad]
    if not differentiable:
        raise ValueError(
            "the representation does not require gradients; found a trunk that is frozen or ran "
            "without gradients"
        )
    return differentiable
