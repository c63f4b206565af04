"""What a stage's losses see in the place of its data: adversarial samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..model.cycle import Cycle
    from .batch import Batch


class Perturbation(ABC):
    """Batch, model → batch.

    Asked of each micro-batch at the beginning of an iteration, with the weights that it begins with; all players then see what it gave. It keeps nothing, and
    what becomes of an item depends on the item, its number and the model alone, so that ranks and micro-batches change nothing. Parts get no gradient from it.
    """

    @abstractmethod
    def perturbed(self, cycle: Cycle) -> Batch:
        """The cycle's batch with the same items, some of them perturbed; what it is given it leaves as it is.

        Args:
            cycle: of the batch; its `rng` is keyed by step and item, its `at` gives a weight of the present step, `of` a cycle of another batch.
        """
