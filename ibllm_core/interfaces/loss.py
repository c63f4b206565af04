"""What a player minimises, and what losses and parts tell of themselves while they are computed, for the log."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from ..model.cycle import Cycle
    from .noise import Rng

#: A mean (), or a sum and its count, so that ranks and accumulation average rightly.
Value = Tensor | tuple[Tensor, Tensor]
#: Name → values () logged so far, and whose are logged now; None where nobody asks.
_LOGGED: ContextVar[tuple[dict[str, list[Tensor]], str, torch.device] | None] = ContextVar("logged", default=None)


class Loss(nn.Module, ABC):
    """A loss of the model player. Its own parameters (a temperature, a head) are trained by its player.

    A batch may be shared between ranks and micro-batches, and `forward` sees one share: what an item adds to the mean must not depend on the
    other items. Where it does, the loss is a `WholeBatchLoss`; one that needs other items without their gradients asks `Cycle.whole`.
    """

    #: A factor that a stage's validation steers; a composite multiplies its λ with it.
    balance: float = 1.0
    #: True where `forward` combines other losses' `Cycle.value`, which are this process's shares already.
    composite: bool = False

    @abstractmethod
    def forward(self, cycle: Cycle) -> Value:
        """The value for one batch: a mean (), or (sum, count) where `count` gives the same count."""

    def count(self, cycle: Cycle) -> Tensor | None:
        """What forward's sum is divided by, from the batch alone; None where forward gives the mean over items.

        Asked of every micro-batch before the first forward pass, so that unequal shares weigh rightly.
        """
        return None


class WholeBatchLoss(Loss):
    """A loss that compares the items of the whole batch with each other: negatives, a softmax over the batch, a function of the batch's mean.

    Shares of the batch are represented one by one, and the whole batch's representations are compared, so that neither the number of ranks nor that of
    micro-batches changes the value or a gradient.
    """

    @abstractmethod
    def represent(self, cycle: Cycle) -> Any:
        """What is compared of one share: tensors (b …), latents and tokens, in tuples, lists or dicts.

        It may go through parts and the loss's own parameters, and is asked twice where there are several micro-batches.
        """

    @abstractmethod
    def compare(self, together: Any, rng: Rng) -> Tensor:
        """The value (), the mean over the whole batch.

        Args:
            together: what `represent` gave, of all items (B …) in their order. Where shares differ in other axes, zeros (masks: False) fill up.
            rng: for all items.

        It computes with these and the loss's own parameters alone.
        """

    def forward(self, cycle: Cycle) -> Tensor:
        return self.compare(self.represent(cycle), cycle.rng("compare"))


class CriticLoss(nn.Module, ABC):
    """A loss of the critic alone (a gradient penalty)."""

    @abstractmethod
    def critic(self, cycle: Cycle) -> Value:
        """The critic's value; what comes from the model is detached."""


class AdversarialLoss(Loss):
    """A loss with two sides: `critic` for the critic, `forward` for the model. The recipe's weight applies to the model's side."""

    @abstractmethod
    def critic(self, cycle: Cycle) -> Value:
        """As a `CriticLoss`'s."""


def log(name: str, value: Tensor | float) -> None:
    """Logs a number of the loss or the part that is computed now, a mean over the batch's items, under `name`; where nothing is trained, nothing happens.

    Of a loss it is ``loss/LOSS/NAME`` in metrics.jsonl, in trackers and in the report, of a part ``part/PART/NAME``: the mean over items, micro-batches,
    ranks and steps since the last row. The device is not waited for. It has to be finite, as a loss has.
    """
    note(name, value)


def note(name: str, value: Tensor | float) -> None:
    """What `log` does, which no compiled pass traces (`leave_uncompiled`)."""
    if (now := _LOGGED.get()) is None:
        return
    into, whose, device = now
    value = value.detach() if isinstance(value, Tensor) else torch.full((), float(value), device=device)
    if value.dim():
        raise ValueError(f"log({name!r}): the value has the shape {tuple(value.shape)}; expected a number, or a tensor of shape ()")
    into.setdefault(f"{whose}/{name}", []).append(value)


@contextmanager
def logging(into: dict[str, list[Tensor]], whose: str, device: torch.device) -> Iterator[None]:
    """Within, what is logged belongs to a loss or a part, `whose`, and is put into a table."""
    token = _LOGGED.set((into, whose, device))
    try:
        yield
    finally:
        _LOGGED.reset(token)
