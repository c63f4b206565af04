"""A figure on held-out data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .panel import Panel

if TYPE_CHECKING:
    from ..model.evaluation import Evaluation


class Metric(ABC):
    """Figures of a trained model on one split. What it asks of the evaluation is computed once for all metrics."""

    @abstractmethod
    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        """Figure → value, all that the config's `figures` names. Fractions are in [0, 1].

        Every value is finite: a run ends, with the metric's name, where one is not. What the evaluation hands out is read-only.
        """

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        """How the figures came about, for the run's record: what extracted them, its sizes, n, and what they were compared with.

        By default n and the hashes of the split's captions and images. Asked after `evaluate`; a metric adds what else its figures depend on.
        """
        return {"n": len(evaluation), **evaluation.hashes}

    def marks(self, evaluation: Evaluation) -> Mapping[str, npt.NDArray[np.bool_]]:
        """What is right or wrong item by item, for sample grids: mark → (b), those that the config's `marks` names. By default nothing."""
        return {}

    def panels(self, evaluation: Evaluation) -> Iterable[Panel]:
        """What the report shows besides the figures, asked after `evaluate` on each reported split. By default nothing."""
        return ()
