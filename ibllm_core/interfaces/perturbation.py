"""What a stage's losses see in the place of its data: adversarial samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..model.cycle import Cycle
    from .batch import Batch


class Perturbation(ABC):
    """Batch, model → batch.

    Asked of each micro-batch at the beginning of an iteration, with the weights that it begins with; all players see what it gave. It keeps nothing, and
    what becomes of an item depends on the item, its number and the model alone, so that ranks and micro-batches change nothing.
    """

    @abstractmethod
    def perturbed(self, cycle: Cycle) -> Batch:
        """The batch of a cycle of which nothing is computed yet, some of its items perturbed; what it is given it leaves as it is, gradients too."""
