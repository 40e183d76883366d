"""What a step must leave as it is."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tests.fuzz.graphs import flat


@dataclass
class Snapshot:
    """What a step may change only by writing: state, `.grad`, and all that is not the step's."""

    grads: dict[Tensor, Tensor]
    state: Tensor
    tasks: tuple[str, ...] | None
    model: dict[str, Tensor]
    needs: list[bool]
    torch_random: Tensor
    numpy_random: bytes


def same(one, other):
    a, b = flat(one), flat(other)
    return one.layout == other.layout and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


class Unchanged:
    """The checks of a `Case` that look at state, `.grad` and all that is not the step's."""

    def snapshot(self):
        return Snapshot(
            {p: p.grad.clone() for p in self.parameters if p.grad is not None},
            self.balancer.get_extra_state(),
            self.balancer.tasks,
            {name: value.clone() for name, value in self.graph.state_dict().items()},
            [p.requires_grad for p in self.parameters],
            torch.get_rng_state(),
            np.random.get_state()[1].tobytes(),  # noqa: NPY002 - the one that users may seed
        )

    def grads_equal(self, before):
        now = {p: p.grad for p in self.parameters if p.grad is not None}
        return now.keys() == before.grads.keys() and all(
            same(g, before.grads[p]) for p, g in now.items()
        )

    def check_untouched(self, before, what):
        assert self.grads_equal(before), f"{what} changed .grad"
        assert torch.equal(before.state, self.balancer.get_extra_state()), f"{what} changed state"
        self.check_surroundings(before)

    def check_surroundings(self, before):
        now = self.snapshot()
        assert torch.equal(now.torch_random, before.torch_random), "torch's random state changed"
        assert now.numpy_random == before.numpy_random, "NumPy's random state changed"
        assert now.needs == before.needs, "requires_grad changed"
        assert all(map(torch.equal, now.model.values(), before.model.values())), "the model changed"
        hooks = [(p._backward_hooks, p._post_accumulate_grad_hooks) for p in self.parameters]
        num_hooks = sum(len(h or ()) for pair in hooks for h in pair)
        assert num_hooks == 0 or self.hooked is not None, "a hook was left"
