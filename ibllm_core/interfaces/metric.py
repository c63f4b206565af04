"""A figure on held-out data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..evaluation import Evaluation


class Metric(ABC):
    """Figures of a trained model on one split. What it asks of the evaluation is computed once for all metrics."""

    @abstractmethod
    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        """Figure name → value. Fractions are in [0, 1]."""
