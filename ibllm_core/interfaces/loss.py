"""What a player minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from ..model.cycle import Cycle
    from .noise import Rng

#: A mean (), or a sum and its count, so that ranks and accumulation average rightly.
Value = Tensor | tuple[Tensor, Tensor]


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
