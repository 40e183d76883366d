"""Gradients with respect to the parameters that the tasks share, or to a subset of them."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

from torch import Tensor, nn

from gradbalance.gradients.found import Found
from gradbalance.gradients.graph import Graph
from gradbalance.gradients.graph_gradients import GraphGradients, Keeping, Shared
from gradbalance.gradients.hidden import check_differentiable, hidden_by
from gradbalance.gradients.micro_batches import Reached
from gradbalance.gradients.parameters import (
    Parameters,
    as_tuple,
    check_count,
    check_groups,
    check_whole,
    names_of,
    parameters_of,
    subset,
)
from gradbalance.gradients.sketch import Sketch
from gradbalance.gradients.source import Request, Source, TaskGradients


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
            `nn.Parameter` that at least two losses reach (with one task: all). Once found, it stays
            shared at steps where tasks are absent; the first step must have all tasks. Other
            leaves are taken for inputs, which get the plain sum, as long as a parameter is shared:
            name those that you train, `SharedParameters([model.trunk, tensor])`.
        measure: a module or parameters, a subset of the shared ones, to take the Gramian on.
        sketch: d, a few thousand or more, to keep seeded linear sketches instead of rows.
        chunk_size: how many tasks are differentiated together, by `torch.vmap`. By default they
            are taken one by one, which was fastest on CPUs and takes the least memory. A task whose
            gradient is not finite takes the others of its chunk with it.

    Raises:
        ValueError: no parameters were given, groups overlap or come with `measure` or `sketch`; at
            a step: the losses share nothing, the graph hides what they share, or tasks are absent
            before it could be found, `measure` is not part of it, the graph was freed, or it does
            not support `torch.vmap`.

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
    accumulates: ClassVar[bool] = True
    takes_representation: ClassVar[bool] = False

    def __init__(
        self,
        parameters: Parameters | Mapping[str, Parameters] | None = None,
        *,
        measure: Parameters | None = None,
        sketch: int | None = None,
        chunk_size: int = 1,
    ) -> None:
        if sketch is not None:
            check_count("sketch", sketch, 2)
        check_count("chunk_size", chunk_size, 1)
        # Tuples keep the user's modules from being registered anywhere.
        self._given: list[tuple[nn.Module | Tensor, ...]] = []
        self._groups: tuple[str, ...] = ()
        if isinstance(parameters, Mapping):
            groups = {str(k): as_tuple(v, f"group {k!r}") for k, v in parameters.items()}
            check_groups(groups, {"measure": measure, "sketch": sketch})
            self._groups, self._given = tuple(groups), list(groups.values())
        elif parameters is not None:
            self._given = [as_tuple(parameters, "parameters")]
        check_whole([p for given in self._given for p in parameters_of(given)])
        self._measure = None if measure is None else as_tuple(measure, "measure")
        self._keeping = Keeping(
            rows_are_written=measure is None and sketch is None,
            sketch=None if sketch is None else Sketch(sketch),
            chunk_size=chunk_size,
        )
        self._found = Found()
        given = {
            "groups": self._groups,
            "parameters": None if self._groups or not self._given else names_of(self._given[0]),
            "measure": None if self._measure is None else names_of(self._measure),
            "sketch": sketch,
            "chunk_size": None if chunk_size == 1 else chunk_size,
        }
        self._text = ", ".join(f"{name}={value}" for name, value in given.items() if value)

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups that were given."""
        return self._groups

    def open(self, losses: Mapping[str, Tensor], request: Request) -> GraphGradients:
        """Over all leaves; over the losses where one weighted backward writes everything."""
        graph = Graph(losses)
        check_differentiable(graph)
        if not self._given:
            hidden = hidden_by(graph)
            if hidden is not None:
                raise ValueError(f"{_NOT_FOUND}: {hidden}. {_NAME_IT}")
        leaves: Reached = graph.reached_by
        if request.earlier is not None:
            leaves = {**request.earlier.reached_by, **leaves}

        def share(reached: Reached, present: Sequence[str]) -> Shared:
            return self._share(reached, present, request.tasks)

        return GraphGradients(losses, graph, list(leaves), share, request, self._keeping)

    def commit(self, gradients: TaskGradients | None, *, freed: bool) -> None:
        """Remember what was found to be shared."""
        if gradients is not None and gradients.found is not None:
            found, complete = gradients.found
            self._found.add(found, complete=complete)

    def state_dict(self) -> dict[str, Any]:
        """The shapes of what was found to be shared."""
        return {} if self._given else self._found.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; what is named here needs nothing."""
        if not self._given:
            self._found.load_state_dict(state)

    def _share(self, reached: Reached, present: Sequence[str], tasks: tuple[str, ...]) -> Shared:
        """The shared parameters that a loss reaches, by group; and who reaches the others."""
        found = None
        new: list[Tensor] = []
        if self._given:
            # All of a group, also what only other ranks reach: so the ranks' rows have the same
            # columns, whichever way each takes through the model.
            trained = [[p for p in parameters_of(g) if p.requires_grad] for g in self._given]
            groups = [g if any(p in reached for p in g) else [] for g in trained]
            if not any(groups):
                raise ValueError(
                    "no loss reaches the parameters given to SharedParameters; check that they "
                    "require gradients and that the losses are computed from them"
                )
        else:
            shared, of_two = self._find(reached, present, len(tasks))
            groups, found = [shared], (of_two, len(present) == len(tasks))
            new = [p for p in shared if p not in self._found]
        known = {tensor for tensors in groups for tensor in tensors}
        check_whole(known)
        unshared = {leaf: tasks for leaf, tasks in reached.items() if leaf not in known}
        measured = groups
        if self._measure is not None:
            measured = [subset(self._measure, [p for p in groups[0] if p in reached])]
        return Shared(groups, measured, unshared, found, new)

    def _find(
        self, reached: Reached, present: Sequence[str], num_tasks: int
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The shared parameters, and those of them that two of the present tasks reach."""
        is_complete = len(present) == num_tasks
        if not is_complete and not self._found.complete:
            raise ValueError(
                f"{_NOT_FOUND} at a step that lacks tasks, before one that has them all: of "
                f"{num_tasks} tasks only {sorted(present)} are here. {_NAME_IT}"
            )
        least = min(2, len(present))
        candidates = [leaf for leaf, tasks in reached.items() if len(tasks) >= least]
        # Other leaves (an input with a gradient, say) are shared only where no parameter is.
        parameters: list[Tensor] = [leaf for leaf in candidates if isinstance(leaf, nn.Parameter)]
        if is_complete and self._found.misses(parameters, reached):
            raise ValueError(
                f"{_NOT_FOUND}: the saved run shared parameters that only one task reaches at its "
                f"first step here. {_NAME_IT}"
            )
        parameters_of_two = parameters if len(present) > 1 else []
        chosen = set(parameters_of_two)
        reaches_known = bool(chosen) or any(leaf in self._found for leaf in reached)
        # In the order in which they were found, which is that of all ranks, also where a rank lacks
        # a task now and would meet them in another one.
        known = [leaf for leaf in self._found if leaf.requires_grad]
        known += [leaf for leaf in parameters_of_two if leaf not in self._found]
        shared = (known if reaches_known else []) or parameters or candidates
        if not shared:
            raise ValueError(
                "the losses share no parameter, so there is nothing to balance; check that the "
                "shared part requires gradients, or sum the losses as usual"
            )
        return shared, parameters_of_two


_NOT_FOUND = "what the tasks share cannot be found from the graph"
_NAME_IT = "Name it: SharedParameters(model.trunk)"
