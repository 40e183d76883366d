"""Gradients with respect to the parameters that the tasks share, or to a subset of them."""

from collections.abc import Mapping
from typing import ClassVar, final

from torch import Tensor, nn

from gradbalance.gradients.graph import Graph
from gradbalance.gradients.parameters import (
    Parameters,
    as_tuple,
    check_count,
    check_groups,
    check_sharded,
    parameters_of,
    subset,
)
from gradbalance.gradients.rows import Rows
from gradbalance.gradients.sharded_rows import ShardedRows, other_parameters, sharded_among
from gradbalance.gradients.shared_rows import MeasuredOnly, SharedRows
from gradbalance.gradients.sketch import Sketch, SketchedRows
from gradbalance.gradients.source import Heads, Source, TaskGradients
from gradbalance.gradients.weighted_sum import WeightedSum


@final
class SharedParameters(Source):
    r"""One gradient a task with respect to the shared parameters: T backwards, exact promises.

    .. math::
        J_{i} = \nabla_\theta L_i, \qquad G = J J^\top, \qquad
        \texttt{.grad}_\theta \mathrel{+}= J^\top w

    with θ [P] the shared parameters and J [T, P] kept as rows until the step is written. With
    `measure` the Gramian is taken over a subset (the last shared layer, as GradNorm does), which
    costs little, and one weighted backward does the rest; promises then hold on the subset. With
    `sketch` a row is kept as d numbers, so memory is O(P + T d) instead of O(T P), at the price of
    one more backward and of an error of about √(2/d) in the cosines; promises are then of that
    error, which is too much near stationary points.
    Named groups are balanced each for itself, with a Gramian and weights of their own; promises
    then hold for the steps of each group, and so for their sum.

    Args:
        parameters: a module, a parameter, or several of either; or a mapping of names to such, to
            balance each group for itself. By default they are found from the graphs: every
            parameter that at least two losses reach (with one task: all). Once found, a parameter
            stays shared at steps where tasks are absent.
        measure: a module or parameters, a subset of the shared ones, to take the Gramian on.
        sketch: d, a few thousand or more, to keep seeded linear sketches instead of rows.
        chunk_size: how many tasks are differentiated together, by `torch.vmap`. By default they
            are taken one by one, which was fastest on CPUs and takes the least memory. A task whose
            gradient is not finite takes the others of its chunk with it.
        sharded: the whole model, where FSDP2 (`fully_shard`) shards it. Each task then gets one
            ordinary backward, and its row is what FSDP leaves in `.grad`: the shards of the mean
            over the ranks. `parameters` must be named, and every rank must have all tasks.

    Raises:
        ValueError: no parameters were given, groups overlap or come with `measure` or `sketch`; at
            a step: the losses share nothing, the graph hides what they share, `measure` is not
            part of it, the graph was freed, or it does not support `torch.vmap`.

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
        self,
        parameters: Parameters | Mapping[str, Parameters] | None = None,
        *,
        measure: Parameters | None = None,
        sketch: int | None = None,
        chunk_size: int = 1,
        sharded: nn.Module | None = None,
    ) -> None:
        if sketch is not None:
            check_count("sketch", sketch, 2)
        check_count("chunk_size", chunk_size, 1)
        # Tuples keep the user's modules from being registered anywhere.
        self._given: dict[str, tuple[nn.Module | Tensor, ...]] = {}
        if isinstance(parameters, Mapping):
            self._given = {str(k): as_tuple(v, f"group {k!r}") for k, v in parameters.items()}
            check_groups(self._given, {"measure": measure, "sketch": sketch})
        elif parameters is not None:
            self._given = {"": as_tuple(parameters, "parameters")}
        if sharded is None and any(map(sharded_among, map(parameters_of, self._given.values()))):
            raise ValueError(
                "the parameters are sharded: name the whole model as well, "
                "SharedParameters(model.trunk, sharded=model)"
            )
        self._measure = None if measure is None else as_tuple(measure, "measure")
        self._sketch = None if sketch is None else Sketch(sketch)
        self._chunk_size = chunk_size
        # Taken now: after a forward pass FSDP may have put unsharded ones in their places.
        named: list[Tensor] = []
        if sharded is not None:
            check_sharded(self._given, {"measure": measure, "sketch": sketch})
            named = parameters_of(self._given[""])
        self._sharded = sharded_among(named)
        self._others = [] if sharded is None else other_parameters(sharded, named)
        self._found: dict[int, nn.Parameter] = {}

    @property
    def accumulates(self) -> bool:
        """Only rows over all shared parameters are also what is written."""
        return self._measure is None and self._sketch is None and not self._sharded

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups that were given."""
        return tuple(self._given) or ("",)

    def measure(
        self, losses: Mapping[str, Tensor], *, heads: Heads, retain_graph: bool
    ) -> dict[str, TaskGradients]:
        """Differentiate every loss with respect to what is measured, and to its own parameters."""
        if self._sharded:
            return self._measure_sharded(losses, heads=heads, retain_graph=retain_graph)
        groups, own = self._split(losses)
        if self._measure is None and self._sketch is None:
            return SharedRows.of(
                losses,
                groups,
                own,
                heads=heads,
                retain_graph=retain_graph,
                chunk_size=self._chunk_size,
            )
        shared = groups[""]
        measured = shared if self._measure is None else subset(self._measure, shared)
        rows = (
            Rows(measured, losses)
            if self._sketch is None
            else SketchedRows(measured, losses, self._sketch)
        )
        only = MeasuredOnly(
            losses,
            shared,
            measured,
            rows,
            own,
            heads=heads,
            retain_graph=retain_graph,
            chunk_size=self._chunk_size,
        )
        return {"": only}

    def reuse(
        self, losses: Mapping[str, Tensor], *, heads: Heads, retain_graph: bool
    ) -> dict[str, TaskGradients]:
        """One weighted backward a group; one more through the heads where they stay raw."""
        if heads == "weighted":
            return {"": WeightedSum(losses, retain_graph=retain_graph)}
        if self._sharded:  # sharded heads cannot be differentiated by themselves
            return self._measure_sharded(losses, heads=heads, retain_graph=retain_graph)
        groups, own = self._split(losses)
        raw = list({leaf: None for leaves in own.values() for leaf in leaves})
        first, last = next(iter(groups)), list(groups)[-1]
        return {
            group: WeightedSum(
                losses,
                weighted=shared,
                raw=raw if group == first else (),
                retain_graph=retain_graph or group != last,
            )
            for group, shared in groups.items()
        }

    def _measure_sharded(
        self, losses: Mapping[str, Tensor], *, heads: Heads, retain_graph: bool
    ) -> dict[str, TaskGradients]:
        shared = [p for p in self._sharded if p.requires_grad]
        rows = ShardedRows(losses, shared, self._others, heads=heads, retain_graph=retain_graph)
        return {"": rows}

    def _split(
        self, losses: Mapping[str, Tensor]
    ) -> tuple[dict[str, list[Tensor]], dict[str, list[Tensor]]]:
        """The shared parameters that a loss reaches, by group; each task's own leaves, by task."""
        graph = Graph(losses)
        graph.check_ddp()
        task = graph.reentrant_task()
        if task is not None:
            raise ValueError(
                f"task {task!r} passes reentrant checkpointing, which can only be differentiated "
                "as a whole; use torch.utils.checkpoint.checkpoint(..., use_reentrant=False)"
            )
        groups = self._given_groups(graph) if self._given else {"": self._find_shared(graph)}
        shared = {id(tensor) for tensors in groups.values() for tensor in tensors}
        own = {
            task: [leaf for key, leaf in leaves.items() if key not in shared]
            for task, leaves in graph.leaves.items()
        }
        return groups, own

    def _given_groups(self, graph: Graph) -> dict[str, list[Tensor]]:
        reached = {key for leaves in graph.leaves.values() for key in leaves}
        groups = {
            group: tensors
            for group, given in self._given.items()
            if (tensors := [p for p in parameters_of(given) if id(p) in reached])
        }
        if not groups:
            raise ValueError(
                "no loss reaches the parameters given to SharedParameters; check that they "
                "require gradients and that the losses are computed from them"
            )
        return groups

    def _find_shared(self, graph: Graph) -> list[Tensor]:
        hidden = graph.hidden_by()
        if hidden is not None:
            raise ValueError(
                f"what the tasks share cannot be found from the graph: {hidden}. Name it: "
                "SharedParameters(model.trunk)"
            )
        num_tasks = len(graph.leaves)
        reached: dict[int, Tensor] = {}
        counts: dict[int, int] = {}
        for leaves in graph.leaves.values():
            reached |= leaves
            for key in leaves:
                counts[key] = counts.get(key, 0) + 1
        candidates = {k: t for k, t in reached.items() if counts[k] >= min(2, num_tasks)}
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
        return list(shared.values())
