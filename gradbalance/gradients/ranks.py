"""The processes that train one model together: what they must agree on, and rows reduced."""

import zlib
from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

# Legend: N ranks, T tasks, C columns of the Jacobian at once.


def widest_dtype(device: torch.device) -> torch.dtype:
    """The dtype that sums are taken in: float64, or float32 where the device has no more."""
    return torch.float32 if device.type == "mps" else torch.float64


class Ranks:
    """A process group, seen as the ranks over which losses and gradients are means.

    Args:
        group: the process group.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self.size = dist.get_world_size(group)

    @classmethod
    def of(cls, distributed: bool | dist.ProcessGroup) -> "Ranks | None":
        """The ranks of a setting of `Balancer`; None where there is but one.

        Args:
            distributed: a group, True for the default one if it was initialised, or False.
        """
        if distributed is False or not dist.is_available() or not dist.is_initialized():
            return None
        group = dist.group.WORLD if distributed is True else distributed
        assert isinstance(group, dist.ProcessGroup)
        return cls(group) if dist.get_world_size(group) > 1 else None

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum over the ranks, in place."""
        dist.all_reduce(tensor, group=self._group)
        return tensor

    def _device_for(self, tensor: Tensor) -> torch.device:
        """Where what is sent must lie: NCCL takes nothing from the CPU, as losses in floats are."""
        if dist.get_backend(self._group) == "nccl" and tensor.device.type == "cpu":
            return torch.device("cuda", torch.cuda.current_device())
        return tensor.device

    def any(self, here: bool, losses: Mapping[str, Tensor]) -> bool:
        """Whether it is so on any rank."""
        device = self._device_for(next(iter(losses.values())))
        return bool(self.add_up(torch.full((), float(here), device=device)) > 0)

    @torch.no_grad()
    def agree(
        self,
        losses: Mapping[str, Tensor],
        tasks: Sequence[str],
        alike: Mapping[str, object],
        rounding: float = 0.0,
    ) -> tuple[dict[str, Tensor], float]:
        """The losses of DDP's objective, by task, of those that are present on any rank.

        A loss is the sum over the ranks that have it, divided by the number of all; NaN where it
        is not finite on one of them. With them the coarsest rounding of any rank. One all-reduce.

        Args:
            losses: of this rank.
            tasks: all T tasks, the same on every rank.
            alike: what else must be the same on every rank, by its name.
            rounding: of this rank's gradients, or any number that is not negative.

        Raises:
            ValueError: on every rank, if it is not.
        """
        device = self._device_for(next(iter(losses.values())))
        zero = torch.zeros((), dtype=widest_dtype(device), device=device)
        here = [losses[t].detach().reshape(()).to(zero) if t in losses else zero for t in tasks]
        values = torch.stack(here)
        finite = torch.isfinite(values)
        present = torch.tensor([float(t in losses) for t in tasks], dtype=zero.dtype).to(device)
        sent = [torch.where(finite, values, 0), present, (~finite).to(zero)]
        sent += [self._of_rank(self._code(what), zero) for what in alike.values()]
        sent.append(self._of_rank(rounding, zero))
        lengths = [len(tasks)] * 3 + [self.size] * (len(alike) + 1)
        received = torch.split(self.add_up(torch.cat(sent)), lengths)
        total, anywhere, broken, *codes, roundings = received
        self._compare(alike, codes)
        means = torch.where(broken > 0, torch.nan, total / self.size)
        each = zip(tasks, means, anywhere.tolist(), strict=True)
        return {task: mean for task, mean, there in each if there}, float(roundings.max())

    def check_same(self, name: str, what: object, like: Tensor) -> None:
        """Raise a ValueError on every rank unless it is the same on all.

        Args:
            name: what it is.
            what: its text is compared.
            like: says where the tensor that is sent lies.
        """
        device = self._device_for(like)
        zero = torch.zeros((), dtype=widest_dtype(device), device=device)
        self._compare({name: what}, [self.add_up(self._of_rank(self._code(what), zero))])

    @staticmethod
    def _code(what: object) -> int:
        """A number for a text, such that float32 holds it."""
        return zlib.crc32(repr(what).encode()) % (1 << 24)

    def _of_rank(self, number: float, zero: Tensor) -> Tensor:
        """[N] one number a rank, zero but for this rank's."""
        numbers = zero.repeat(self.size)
        numbers[dist.get_rank(self._group)] = number
        return numbers

    def _compare(self, alike: Mapping[str, object], codes: Sequence[Tensor]) -> None:
        for (name, what), found in zip(alike.items(), codes, strict=True):
            if len(set(found.tolist())) > 1:
                raise ValueError(
                    f"{name} must be the same on all ranks; found {what} here and something else "
                    "elsewhere. Name the tasks, Balancer(tasks=[...]), and what they share, "
                    "SharedParameters(model.trunk): a rank that lacks a task may find something "
                    "else"
                )

    def mean_shard(self, rows_TC: Tensor) -> Tensor:
        """This rank's share [T, C / N] of the columns of the rows' mean over the ranks.

        Gloo's reduce-scatter moves the bytes of an all-reduce; there, an all-to-all with a sum on
        the spot moves half of that.

        Args:
            rows_TC: the rows of this rank, C a multiple of N.
        """
        num_tasks, num_columns = rows_TC.shape
        share = num_columns // self.size
        sent = rows_TC.view(num_tasks, self.size, share).transpose(0, 1).contiguous()
        if dist.get_backend(self._group) == "gloo":
            received = torch.empty_like(sent)
            dist.all_to_all_single(received, sent, group=self._group)
            return received.sum(dim=0) / self.size
        shard = torch.empty_like(sent[0])
        # The second name is that of releases before 2.13, which the first one deprecates.
        reduce = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
        reduce(shard, sent, group=self._group)
        return shard / self.size
