"""Many processes, one job: gradients are averaged in one bucketed all-reduce a player's step.

Parts are called on demand and more than once, which one DistributedDataParallel wrapper cannot follow; an explicit all-reduce can.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs
import torch
import torch.distributed as dist
from torch import Tensor


@attrs.frozen
class Ranks:
    """This process among all: `rank` in [0, count)."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Averages gradients over all processes, one message a dtype. A parameter without a gradient anywhere keeps none."""
        if self.count == 1:
            return
        parameters = list(parameters)
        used = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32, device=parameters[0].device)
        dist.all_reduce(used)
        shared = [p for p, flag in zip(parameters, used.tolist(), strict=True) if flag > 0]
        for dtype in {p.dtype for p in shared}:
            bucket = [p for p in shared if p.dtype == dtype]
            flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in bucket])
            dist.all_reduce(flat)
            flat /= self.count
            for p, piece in zip(bucket, torch.split(flat, [p.numel() for p in bucket]), strict=True):
                p.grad = piece.view_as(p).clone() if p.grad is None else p.grad.copy_(piece.view_as(p))

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.count > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def union(self, names: Iterable[str]) -> list[str]:
        """The names that any process has, in one order."""
        found: list[list[str]] = [[*names]] * self.count
        if self.count > 1:
            dist.all_gather_object(found, found[0])
        return list(dict.fromkeys(name for some in found for name in some))

    def gather(self, rows: Tensor) -> tuple[Tensor, int]:
        """The rows (n …) of all processes one after the other, without a graph, and the number of those before this one's own (`join_rows`)."""
        if self.count == 1:
            return rows, 0
        shape = torch.tensor(rows.shape, device=rows.device)
        shapes = [torch.empty_like(shape) for _ in range(self.count)]
        dist.all_gather(shapes, shape)
        sizes = torch.stack(shapes).tolist()
        # As bytes, so that numbers of any kind arrive as they were.
        sent = _grown(rows, [max(axis) for axis in zip(*sizes, strict=True)]).contiguous().view(torch.uint8)
        found = [torch.empty_like(sent) for _ in range(self.count)]
        dist.all_gather(found, sent)
        kept = [one.view(rows.dtype)[: size[0]] for one, size in zip(found, sizes, strict=True)]
        return torch.cat(kept), sum(size[0] for size in sizes[: self.rank])

    def any(self, flag: bool, device: torch.device) -> bool:
        """True where it is true in any process."""
        if self.count == 1:
            return flag
        return bool(self.total(torch.tensor(float(flag), device=device)) > 0)

    def same(self, parameters: Iterable[Tensor]) -> None:
        """Every process takes the first one's values."""
        if self.count > 1:
            for p in parameters:
                dist.broadcast(p.data, 0)

    def wait(self) -> None:
        if self.count > 1:
            dist.barrier()


def join_rows(pieces: Sequence[Tensor]) -> Tensor:
    """(n …) each → their rows one after the other. Where they differ in other axes, zeros fill up."""
    sizes = [max(axis) for axis in zip(*(piece.shape[1:] for piece in pieces), strict=True)]
    return torch.cat([_grown(piece, [len(piece), *sizes]) for piece in pieces])


def _grown(piece: Tensor, sizes: Sequence[int]) -> Tensor:
    grown = piece.new_zeros(sizes)
    grown[tuple(map(slice, piece.shape))] = piece
    return grown
