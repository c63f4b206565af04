"""What a player minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs
from torch import Tensor, nn

if TYPE_CHECKING:
    from ..model.cycle import Cycle

#: A mean (), or a sum and its count, so that ranks and accumulation average rightly.
Value = Tensor | tuple[Tensor, Tensor]


@attrs.frozen
class Scale:
    """How a loss's value becomes one share of the mean over all ranks and micro-batches, which may be unequal.

    Attributes:
        shares: ranks × micro-batches, over which gradients are averaged afterwards.
        items: items over all of them; 0 where there is only one share.
        counts: loss name → the count over all of them; empty where there is only one share.
    """

    shares: int = 1
    items: int = 0
    counts: Mapping[str, Tensor] = attrs.field(factory=dict)


class Loss(nn.Module, ABC):
    """A loss of the model player. Its own parameters (a temperature, a head) are trained by its player."""

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
