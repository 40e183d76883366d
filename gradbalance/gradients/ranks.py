"""The processes that train one model together: what they must agree on, and reductions of rows."""

import textwrap
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

# Legend: N ranks, T tasks, C columns of the Jacobian at once.


def widest_dtype(device: torch.device) -> torch.dtype:
    """The dtype in which sums are taken: float64, or float32 on devices without it."""
    return torch.float32 if device.type == "mps" else torch.float64


class RanksError(ValueError):
    """An error that is raised on every rank at once."""


@dataclass(frozen=True)
class Common:
    """Something that must be the same on all ranks.

    Attributes:
        name: what it is.
        value: its value on this rank, compared as text.
        remedy: what to do if it differs.
    """

    name: str
    value: object
    remedy: str


class Ranks:
    """A process group: the N ranks over which losses and gradients are averaged.

    Args:
        group: the process group.

    Attributes:
        size: N.
        failed: whether this rank failed, and takes part in sums only so that the others do not
            wait for it: every sum then raises an error on all ranks.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self.failed = False
        self.size = dist.get_world_size(group)

    @classmethod
    def of(cls, distributed: bool | dist.ProcessGroup) -> "Ranks | None":
        """The ranks for the option `distributed` of a `Balancer`; None if there is only one.

        Args:
            distributed: a group; True for the default group, if it was initialised; or False.
        """
        if distributed is False or not dist.is_available() or not dist.is_initialized():
            return None
        group = dist.group.WORLD if distributed is True else distributed
        assert isinstance(group, dist.ProcessGroup)
        return cls(group) if dist.get_world_size(group) > 1 else None

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum over the ranks.

        Raises:
            RanksError: on every rank, if one of them has failed.
        """
        flag = tensor.new_full((1,), float(self.failed))
        total = torch.cat([tensor.reshape(-1), flag])
        dist.all_reduce(total, group=self._group)
        if total[-1] > 0:
            raise RanksError(
                "another rank raised an error while it differentiated its losses, which its own "
                "message explains; the step was given up on all ranks, and nothing was written"
            )
        return total[:-1].view(tensor.shape)

    def _device_for(self, tensor: Tensor) -> torch.device:
        """The device for a message: NCCL cannot send from the CPU, where float losses are."""
        if dist.get_backend(self._group) == "nccl" and tensor.device.type == "cpu":
            return torch.device("cuda", torch.cuda.current_device())
        return tensor.device

    @torch.no_grad()
    def agree(
        self,
        losses: Mapping[str, Tensor],
        tasks: Sequence[str],
        common: Sequence[Common],
        number: float = 0.0,
        told: Sequence[float] = (0.0, 0.0),
    ) -> tuple[dict[str, Tensor], float, list[tuple[float, ...]]]:
        """Average the losses as in DDP's objective, and check what ranks have in common.

        A loss is summed over the ranks that have it, and divided by the number of all ranks; it is
        NaN if it is not finite on any of them. Takes one all-reduce.

        Args:
            losses: the losses of this rank.
            tasks: all T tasks, the same on every rank.
            common: what else must be the same on every rank.
            number: a non-negative number of this rank, such as the rounding of its gradients.
            told: two numbers of this rank, which may differ between ranks.

        Returns:
            The averaged losses of the tasks present on any rank, the largest `number`, and the pair
            `told` of every rank.

        Raises:
            RanksError: on every rank, if anything in `common` differs.
        """
        device = self._device_for(next(iter(losses.values())))
        zero = torch.zeros((), dtype=widest_dtype(device), device=device)
        here = [losses[t].detach().reshape(()).to(zero) if t in losses else zero for t in tasks]
        values = torch.stack(here)
        finite = torch.isfinite(values)
        present = torch.tensor([float(t in losses) for t in tasks], dtype=zero.dtype).to(device)
        sent = [torch.where(finite, values, 0), present, (~finite).to(zero)]
        sent += [self._of_rank(self._code(what), zero) for what in common]
        sent += [self._of_rank(each, zero) for each in (number, *told)]
        lengths = [len(tasks)] * 3 + [self.size] * (len(common) + 1 + len(told))
        received = torch.split(self.add_up(torch.cat(sent)), lengths)
        total, anywhere, broken, *codes, numbers, first, second = received
        self._compare(common, codes)
        means = torch.where(broken > 0, torch.nan, total / self.size)
        each = zip(tasks, means, anywhere.tolist(), strict=True)
        agreed = {task: mean for task, mean, there in each if there}
        by_rank = [tuple(pair) for pair in torch.stack([first, second], dim=1).tolist()]
        return agreed, float(numbers.max()), by_rank

    def check_same(self, common: Common, like: Tensor) -> None:
        """Raise an error on every rank unless something is the same on all.

        Args:
            common: what is compared.
            like: a tensor, whose device is used for the message.
        """
        device = self._device_for(like)
        zero = torch.zeros((), dtype=widest_dtype(device), device=device)
        self._compare([common], [self.add_up(self._of_rank(self._code(common), zero))])

    @staticmethod
    def _code(common: Common) -> int:
        """A checksum that is exact in float32."""
        return zlib.crc32(repr(common.value).encode()) % (1 << 24)

    def _of_rank(self, number: float, zero: Tensor) -> Tensor:
        """[N] one number per rank, zero except for this rank's."""
        numbers = zero.repeat(self.size)
        numbers[dist.get_rank(self._group)] = number
        return numbers

    def _compare(self, common: Sequence[Common], codes: Sequence[Tensor]) -> None:
        for what, of_ranks in zip(common, codes, strict=True):
            found = of_ranks.tolist()
            here = found[dist.get_rank(self._group)]
            others = [rank for rank, code in enumerate(found) if code != here]
            if others:
                value = textwrap.shorten(str(what.value), 400, placeholder=" …")
                raise RanksError(
                    f"{what.name} must be the same on all ranks; found {value} here and something "
                    f"else on the ranks {others}. {what.remedy}"
                )

    def mean_shard(self, rows_TC: Tensor) -> Tensor:
        """Average rows over the ranks, and return this rank's share [T, C / N] of the columns.

        Gloo's reduce-scatter transfers as many bytes as an all-reduce; an all-to-all with a local
        sum transfers half of that, and is used instead.

        Args:
            rows_TC: the rows of this rank; C is a multiple of N.
        """
        num_tasks, num_columns = rows_TC.shape
        share = num_columns // self.size
        sent = rows_TC.view(num_tasks, self.size, share).transpose(0, 1).contiguous()
        if dist.get_backend(self._group) == "gloo":
            received = torch.empty_like(sent)
            dist.all_to_all_single(received, sent, group=self._group)
            return received.sum(dim=0) / self.size
        shard = torch.empty_like(sent[0])
        # The second name is for torch before 2.13; later releases deprecate it.
        reduce = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
        reduce(shard, sent, group=self._group)
        return shard / self.size
