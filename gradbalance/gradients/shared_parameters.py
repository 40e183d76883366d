"""Gradients with respect to the parameters that the tasks share, or to a subset of them."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, final

from torch import Tensor, nn

from gradbalance.gradients.autograd import accumulate, differentiate, weighted_backward
from gradbalance.gradients.graph import Graph
from gradbalance.gradients.heads import HeadGradients
from gradbalance.gradients.rows import Rows
from gradbalance.gradients.source import Heads, Source, TaskGradients
from gradbalance.gradients.weighted_sum import WeightedSum

Parameters = nn.Module | Tensor | Iterable[nn.Module | Tensor]


@final
class SharedParameters(Source):
    r"""One gradient a task with respect to the shared parameters: T backwards, exact promises.

    .. math::
        J_{i} = \nabla_\theta L_i, \qquad G = J J^\top, \qquad
        \texttt{.grad}_\theta \mathrel{+}= J^\top w

    with θ [P] the shared parameters and J [T, P] kept as rows until the step is written. With
    `measure` the Gramian is taken over a subset (the last shared layer, as GradNorm does), which
    costs little, and one weighted backward does the rest; promises then hold on the subset.

    Args:
        parameters: a module, a parameter, or several of either. By default they are found from the
            graphs: every parameter that at least two losses reach (with one task: all). Once
            found, a parameter stays shared at steps where tasks are absent.
        measure: a module or parameters, a subset of the shared ones, to take the Gramian on.

    Raises:
        ValueError: no parameters were given; at a step: the losses share nothing, the graph hides
            what they share, `measure` is not part of it, or the graph was freed.

    Example:
        >>> import torch, gradbalance as gb
        >>> trunk, heads = torch.nn.Linear(3, 2), torch.nn.ModuleList([torch.nn.Linear(2, 1)] * 2)
        >>> balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters(trunk))
        >>> z = trunk(torch.ones(4, 3))
        >>> report = balancer.backward([head(z).square().mean() for head in heads])
        >>> trunk.weight.grad.shape
        torch.Size([2, 3])
    """

    measures_gramian: ClassVar[bool] = True

    def __init__(
        self, parameters: Parameters | None = None, *, measure: Parameters | None = None
    ) -> None:
        # Tuples keep the user's modules from being registered anywhere.
        self._given = None if parameters is None else _as_tuple(parameters, "parameters")
        self._measure = None if measure is None else _as_tuple(measure, "measure")
        self._found: dict[int, nn.Parameter] = {}

    def measure(
        self, losses: Mapping[str, Tensor], *, heads: Heads, retain_graph: bool
    ) -> TaskGradients:
        """Differentiate every loss with respect to what is measured, and to its own parameters."""
        graph = _graph_of(losses)
        shared = self._shared(graph)
        if self._measure is None:
            return _SharedRows(losses, graph, shared, heads=heads, retain_graph=retain_graph)
        measured = [p for p in _parameters_of(self._measure) if p.requires_grad]
        outside = [tuple(p.shape) for p in measured if id(p) not in shared]
        if outside or not measured:
            raise ValueError(
                "measure must be parameters that the tasks share and that require gradients; found "
                + (f"others, of shapes {outside}" if outside else "none")
            )
        return _MeasuredSubset(
            losses, graph, shared, measured, heads=heads, retain_graph=retain_graph
        )

    def reuse(
        self, losses: Mapping[str, Tensor], *, heads: Heads, retain_graph: bool
    ) -> TaskGradients:
        """One weighted backward; a second through the heads where they stay raw."""
        if heads == "weighted":
            return WeightedSum(losses, retain_graph=retain_graph)
        graph = _graph_of(losses)
        shared = self._shared(graph)
        own = {leaf: None for task in losses for leaf in _own_leaves(graph, task, shared)}
        return WeightedSum(
            losses, weighted=list(shared.values()), raw=list(own), retain_graph=retain_graph
        )

    def _shared(self, graph: Graph) -> dict[int, Tensor]:
        """What the tasks share, by id, and at least one of this step's losses reaches."""
        reached: dict[int, Tensor] = {}
        counts: dict[int, int] = {}
        for leaves in graph.leaves.values():
            reached |= leaves
            for key in leaves:
                counts[key] = counts.get(key, 0) + 1
        if self._given is not None:
            shared = {id(p): p for p in _parameters_of(self._given) if id(p) in reached}
            if not shared:
                raise ValueError(
                    "no loss reaches the parameters given to SharedParameters; check that they "
                    "require gradients and that the losses are computed from them"
                )
            return shared
        hidden = graph.hidden_by()
        if hidden is not None:
            raise ValueError(
                f"what the tasks share cannot be found from the graph: {hidden}. Name it: "
                "SharedParameters(model.trunk)"
            )
        return self._find_shared(reached, counts, num_tasks=len(graph.leaves))

    def _find_shared(
        self, reached: dict[int, Tensor], counts: dict[int, int], *, num_tasks: int
    ) -> dict[int, Tensor]:
        enough = min(2, num_tasks)
        candidates = {k: t for k, t in reached.items() if counts[k] >= enough}
        # Other leaves (an input with a gradient, say) are shared only where no parameter is.
        parameters = {k: t for k, t in candidates.items() if isinstance(t, nn.Parameter)}
        if num_tasks > 1:
            self._found |= parameters
        known = {k: t for k, t in self._found.items() if k in reached}
        shared = known or parameters or candidates
        if not shared:
            raise ValueError(
                "the losses share no parameter, so there is nothing to balance; check that the "
                "shared part requires gradients, or sum the losses as usual"
            )
        return dict(shared)


class _SharedRows(TaskGradients):
    """One row a task over all shared parameters."""

    def __init__(
        self,
        losses: Mapping[str, Tensor],
        graph: Graph,
        shared: dict[int, Tensor],
        *,
        heads: Heads,
        retain_graph: bool,
    ) -> None:
        self._shared = list(shared.values())
        self._rows = Rows(self._shared, losses)
        self._heads = HeadGradients(heads)
        last = list(losses)[-1]
        for task, loss in losses.items():
            own = _own_leaves(graph, task, shared)
            gradients = differentiate(
                task, loss, [*self._shared, *own], retain_graph=retain_graph or task != last
            )
            self._rows.fill(task, gradients[: len(self._shared)])
            self._heads.keep(task, own, gradients[len(self._shared) :])

    def gram(self) -> Tensor:
        return self._rows.gram()

    def backward(self, weights: Mapping[str, float]) -> None:
        accumulate(self._shared, self._rows.combine(weights))
        self._heads.accumulate(weights)


class _MeasuredSubset(TaskGradients):
    """Rows over a subset of the shared parameters; one weighted backward reaches the others."""

    def __init__(
        self,
        losses: Mapping[str, Tensor],
        graph: Graph,
        shared: dict[int, Tensor],
        measured: list[Tensor],
        *,
        heads: Heads,
        retain_graph: bool,
    ) -> None:
        self._losses = losses
        self._shared = list(shared.values())
        self._retain_graph = retain_graph
        self._rows = Rows(measured, losses)
        # Weighted heads come with the weighted backward; raw ones lie on the way to the rows.
        self._heads = HeadGradients("raw") if heads == "raw" else None
        for task, loss in losses.items():
            own = _own_leaves(graph, task, shared) if self._heads else []
            gradients = differentiate(task, loss, [*measured, *own], retain_graph=True)
            self._rows.fill(task, gradients[: len(measured)])
            if self._heads:
                self._heads.keep(task, own, gradients[len(measured) :])

    def gram(self) -> Tensor:
        return self._rows.gram()

    def backward(self, weights: Mapping[str, float]) -> None:
        weighted_backward(
            self._losses,
            weights,
            retain_graph=self._retain_graph,
            inputs=self._shared if self._heads else None,
        )
        if self._heads:
            self._heads.accumulate(weights)


def _graph_of(losses: Mapping[str, Tensor]) -> Graph:
    graph = Graph(losses)
    task = graph.reentrant_task()
    if task is not None:
        raise ValueError(
            f"task {task!r} passes reentrant checkpointing, which can only be differentiated "
            "as a whole; use torch.utils.checkpoint.checkpoint(..., use_reentrant=False)"
        )
    return graph


def _own_leaves(graph: Graph, task: str, shared: dict[int, Tensor]) -> list[Tensor]:
    return [leaf for key, leaf in graph.leaves[task].items() if key not in shared]


def _as_tuple(parameters: Parameters, argument: str) -> tuple[nn.Module | Tensor, ...]:
    given = (parameters,) if isinstance(parameters, nn.Module | Tensor) else tuple(parameters)
    wrong = [type(p).__name__ for p in given if not isinstance(p, nn.Module | Tensor)]
    if wrong or not _parameters_of(given):
        raise ValueError(
            f"{argument} must be a module or parameters, at least one; found "
            + (f"objects of type {wrong}" if wrong else "no parameter")
        )
    return given


def _parameters_of(given: tuple[nn.Module | Tensor, ...]) -> list[Tensor]:
    unique: dict[int, Tensor] = {}
    for item in given:
        for parameter in item.parameters() if isinstance(item, nn.Module) else (item,):
            unique[id(parameter)] = parameter
    return list(unique.values())
