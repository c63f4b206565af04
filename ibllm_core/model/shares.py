"""A batch in shares: over ranks, and over the micro-batches of each. What losses give of the shares has the whole batch's value as its mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import attrs
import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..interfaces.batch import Batch
from ..interfaces.latent import at_least_float32
from ..interfaces.loss import CriticLoss, Loss, Value, WholeBatchLoss, logging
from ..interfaces.noise import Rng, drawing_from
from .cycle import Cycle, ratio
from .model import Model
from .watch import Present, Watch

T = TypeVar("T")


@attrs.frozen
class Ranks:
    """This process among all: `rank` in [0, count)."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

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

    def firsts(self, value: T) -> T:
        """What the first process says."""
        said = [value]
        if self.count > 1:
            dist.broadcast_object_list(said)
        return said[0]

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


class Shares:
    """This process's micro-batches among all shares of a batch.

    A loss of the whole batch (`WholeBatchLoss`) is computed as by GradCache (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory
    Limited Setup"): all shares' representations without a graph, gathered over ranks; their comparison and its gradients, which every rank computes alike; then
    each share represents its items again, and the gradients go on from there. No two micro-batches' graphs are held at once.

    Args:
        batches: micro-batches, on the model's device.
        losses: name → loss: all that are played, and their terms.
        key, present: as a cycle's.
        ranks: between whom the batch is shared, which has so many `items` then.
        watch: told what is computed.
    """

    def __init__(
        self,
        model: Model,
        batches: Sequence[Batch],
        losses: Mapping[str, Loss | CriticLoss],
        key: tuple[int | str, ...] = (0,),
        present: Present | None = None,
        ranks: Ranks | None = None,
        items: int = 0,
        watch: Watch | None = None,
    ) -> None:
        self._model, self._batches, self._losses, self._key, self._present = model, batches, losses, key, present or Present()
        self._ranks, self._watch = ranks or Ranks(), watch or Watch()
        self._items = items if self._ranks.count > 1 else sum(map(len, batches))
        self.count, self._kept, self._counts = self._ranks.count * len(batches), list[Cycle](), dict[str, Tensor]()
        for name, loss in losses.items() if self.count > 1 else ():
            found = [loss.count(self._cycle(number)) for number in range(len(batches))] if isinstance(loss, Loss) else []
            if known := [count for count in found if count is not None]:
                self._counts[name] = self._ranks.total(torch.stack(known).sum().float())
        self.end_turn()

    def cycles(self) -> Iterator[Cycle]:
        """A cycle of each micro-batch, the one after the other: of a single one always the same, of several new ones with the same noise."""
        if len(self._batches) == 1:
            self._kept = self._kept or [self._cycle(0)]
        yield from self._kept or map(self._cycle, range(len(self._batches)))

    def forget(self) -> None:
        """What was computed of the batch is computed anew: weights were moved."""
        self._kept = []

    def end_turn(self) -> None:
        """What was gathered and compared for a player's gradients is gone."""
        self._gathered = dict[str, tuple[Any, list[tuple[slice, ...]]]]()
        self._compared = dict[str, tuple[Tensor, list[Tensor | None], list[tuple[str, Tensor]]]]()

    def mean(self, name: str, value: Value, items: int) -> Tensor:
        """A value of one share with so many items, made so that the mean over all shares is that over all items."""
        if isinstance(value, Tensor):
            return value * (items * self.count / self._items)
        return ratio(value[0] * self.count, self._counts[name]) if name in self._counts else ratio(*value)

    def gather(self, name: str, represent: Callable[[Cycle], Any], cycle: Cycle) -> tuple[Any, tuple[slice, ...]]:
        """What `represent` gives of every item, without its graph, and which rows of each of its tensors are the cycle's."""
        if name not in self._gathered:
            self._gathered[name] = self._gather(represent, cycle)
        together, own = self._gathered[name]
        return together, own[cycle.number]

    def compare(self, name: str, loss: WholeBatchLoss, cycle: Cycle) -> Tensor:
        """The whole batch's value (); its gradients are this share's: their mean over all shares is the whole batch's."""
        together, own = self.gather(name, lambda share: share.represented(name, loss), cycle)
        parameters = list(loss.parameters())
        if name not in self._compared:
            self._compared[name] = self._compare(name, loss, together, parameters)
        value, gradients, logged = self._compared[name]
        for what, told in logged:
            cycle.log(what, told)
        live = tree_flatten(cycle.represented(name, loss))[0]
        pulled = value.new_zeros(())
        for number, (tensor, gradient) in enumerate(zip([*live, *parameters], gradients, strict=True)):
            if gradient is not None and tensor.requires_grad:
                # Other shares' rows may be longer; rows are one share's alone, parameters all shares'.
                mine = (gradient[own[number]], self.count) if number < len(live) else (gradient, 1)
                pulled = pulled + mine[1] * (at_least_float32(tensor) * mine[0][tuple(map(slice, tensor.shape))]).sum()
        return value + (pulled - pulled.detach())

    def _compare(
        self, name: str, loss: WholeBatchLoss, together: Any, parameters: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor | None], list[tuple[str, Tensor]]]:
        """The value, its gradients by each representation and parameter, and what was logged; in every rank the same."""
        rows, tree = tree_flatten(together)
        rows = [row.clone().requires_grad_(row.is_floating_point() and torch.is_grad_enabled()) for row in rows]
        rng = Rng(self._key, self._numbers(), self._model.device, self._present.drawn)
        logged: dict[str, list[Tensor]] = {}
        with drawing_from(rng.fold("dropout", f"losses.{name}", "compare", 1)), logging(logged, "", self._model.device):
            value = loss.compare(tree_unflatten(rows, tree), rng.fold("compare"))
        wanted = [tensor for tensor in (*rows, *parameters) if tensor.requires_grad and value.requires_grad]
        found = iter(torch.autograd.grad(value, wanted, allow_unused=True) if wanted else ())
        said = [(what.removeprefix("/"), number) for what, numbers in logged.items() for number in numbers]
        return value.detach(), [next(found) if wanted and tensor.requires_grad else None for tensor in (*rows, *parameters)], said

    def _gather(self, represent: Callable[[Cycle], Any], cycle: Cycle) -> tuple[Any, list[tuple[slice, ...]]]:
        if self._kept:
            trees = [represent(cycle)]
        else:
            with torch.no_grad():
                trees = [represent(self._cycle(number)) for number in range(len(self._batches))]
            torch.clear_autocast_cache()  # weights that were cast without a graph are not for the passes that have one
        rows, own = [], []
        for pieces in zip(*(tree_flatten(tree)[0] for tree in trees), strict=True):
            every, start = self._ranks.gather(join_rows([piece.detach() for piece in pieces]))
            rows.append(every)
            own.append([slice(*ends) for ends in pairwise(accumulate(map(len, pieces), initial=start))])
        return tree_unflatten(rows, tree_flatten(trees[0])[1]), list(zip(*own, strict=True))

    def _cycle(self, number: int) -> Cycle:
        shares = self if self.count > 1 else None
        return Cycle(self._model, self._batches[number], self._losses, self._key, self._present, shares, self._watch, number)

    def _numbers(self) -> npt.NDArray[np.int64] | Tensor:
        """(b) what keys the noise of the whole batch's items."""
        if self._ranks.count > 1:
            return np.arange(self._items)
        keys = [batch.keys for batch in self._batches if batch.keys is not None]
        return torch.cat(keys) if keys else np.concatenate([batch.numbers for batch in self._batches])
