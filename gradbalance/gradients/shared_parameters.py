"""Gradients with respect to the shared parameters, or to a subset of them."""

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
    r"""Compute one gradient per task with respect to the shared parameters, in T backwards.

    .. math::
        J_{i} = \nabla_\theta L_i, \qquad G = J J^\top, \qquad
        \texttt{.grad}_\theta \mathrel{+}= J^\top w

    with θ [P] the shared parameters and J [T, P] the Jacobian, whose T rows are kept in memory
    until the step is written. By default the solvers' guarantees hold exactly. Three options change
    what is computed and what is guaranteed:

    * `measure` computes the Gramian on a subset of the parameters (such as the last shared layer,
      as GradNorm does). This is cheap, and one weighted backward computes all other gradients.
      Guarantees then hold for the subset.
    * `sketch` keeps d numbers per row, so memory is O(P + T d) instead of O(T P). It costs one more
      backward, and an error of about √(2/d) in the cosines. Guarantees then hold up to that error,
      which is too large near stationary points.
    * Named groups of parameters are balanced separately, each with its own Gramian and weights.
      Guarantees then hold for the step of each group, and so for their sum.

    Args:
        parameters: the shared parameters: a module, a parameter, or several of either; or a mapping
            from group names to these, to balance each group separately. By default they are found
            in the autograd graphs: every `nn.Parameter` that at least two losses reach (with one
            task, all parameters). A parameter that was found stays shared at steps where tasks are
            absent; the first step must have all tasks. Other leaf tensors count as inputs, and get
            the gradient of the plain sum, as long as a parameter is shared. If you train such a
            tensor, name it: `SharedParameters([model.trunk, tensor])`.
        measure: a module or parameters, a subset of the shared ones, on which to compute the
            Gramian.
        sketch: d, a few thousand or more: keep seeded linear sketches of this size instead of rows.
        chunk_size: how many tasks are differentiated together, with `torch.vmap`. The default, one
            by one, was fastest on CPUs and needs the least memory. If the gradient of one task is
            not finite, those of all tasks in its chunk are affected.

    Raises:
        ValueError: no parameters were given, or groups overlap or are combined with `measure` or
            `sketch`. At a step: the losses share no parameters, the graph hides which ones they
            share, tasks are absent before these were found, `measure` is not a subset of them, the
            graph was freed, or it does not support `torch.vmap`.

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
        """The names of the groups of parameters; empty without groups."""
        return self._groups

    def open(self, losses: Mapping[str, Tensor], request: Request) -> GraphGradients:
        """Open a step; its ends are all leaves, or the losses if one weighted backward suffices."""
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
        """Remember the parameters that were found to be shared."""
        if gradients is not None and gradients.found is not None:
            found, complete = gradients.found
            self._found.add(found, complete=complete)

    def state_dict(self) -> dict[str, Any]:
        """The shapes of the parameters that were found to be shared."""
        return {} if self._given else self._found.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; not needed if the parameters are named."""
        if not self._given:
            self._found.load_state_dict(state)

    def _share(self, reached: Reached, present: Sequence[str], tasks: tuple[str, ...]) -> Shared:
        """The shared parameters that a loss reaches, by group, and which tasks reach the others."""
        found = None
        new: list[Tensor] = []
        if self._given:
            # The whole group, with parameters that only other ranks reach: then rows have the same
            # columns on all ranks, whatever path each rank takes through the model.
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
        """The shared parameters, and those among them that at least two present tasks reach."""
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
        # In the order in which they were found: it is the same on all ranks, even if a rank lacks a
        # task now and would find them in another order.
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
