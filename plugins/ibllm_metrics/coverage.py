"""Precision, recall, density and coverage of generated images in a stated feature space. Shapes: n real and m generated images, d features.

The ball of a point reaches to its k-th nearest neighbour among the points of its own kind, that one included. The released code of
Naeem et al. (the package prdc) leaves the surface out, which differs only where distances are equal: of images that come k times and more,
not even copies would be in the ball.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ibllm.plugin import Context, Metric
from ibllm_metrics.config import CoverageConfig
from ibllm_metrics.features import both, described

if TYPE_CHECKING:
    from ibllm.plugin import Evaluation

Features = npt.NDArray[np.float64]


def radii(x: Features, k: int) -> Features:
    """(n d) → (n) the distance of each point from its k-th nearest neighbour, 1 ≤ k < n; itself is none, its copies are."""
    from scipy.spatial.distance import cdist

    distances = cdist(x, x)
    np.fill_diagonal(distances, np.inf)
    found: Features = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return found


def compare(real: Features, generated: Features, k: int) -> dict[str, float]:
    """Of real (n d) and generated (m d): precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020)."""
    from scipy.spatial.distance import cdist

    distances = cdist(real, generated)  # by differences, so that copies are at no distance at all
    in_real = distances <= radii(real, k)[:, None]
    in_generated = distances <= radii(generated, k)[None]
    return {
        "precision": float(in_real.any(0).mean()),
        "recall": float(in_generated.any(1).mean()),
        "density": float(in_real.sum(0).mean() / k),
        "coverage": float(in_real.any(1).mean()),
    }


def expected_coverage(n: int, m: int, k: int) -> float:
    """The coverage that m further images of the data would have of n: 1 − (n−1)…(n−k) / ((n+m−1)…(n+m−k)) (Naeem et al. 2020)."""
    i = np.arange(1, k + 1)
    return float(1 - np.prod((n - i) / (n + m - i)))


class CoverageMetric(Metric):
    """`compare` of a split's real images and those generated from its captions."""

    def __init__(self, config: CoverageConfig, context: Context) -> None:
        self.config = config

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        real, generated = both(self.config, evaluation)
        if len(real) < 2:
            raise ValueError(f"the metric coverage needs at least 2 items; the split {evaluation.split} has {len(real)}")
        found = compare(real, generated, self._reached(evaluation))
        return {f"{name}_{self.config.extractor}": value for name, value in found.items()}

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        n, k = len(evaluation), self._reached(evaluation)
        found = {**super().record(evaluation), **described(self.config, evaluation), "neighbours": k}
        if k < self.config.neighbours:
            few = f"of few items: {n} have no {self.config.neighbours} neighbours each, so balls reach the {k} that there are"
            found |= {f"caution {name}": few for name in self.config.names()}
        return found | {"coverage by the data's own": expected_coverage(n, n, k)}

    def _reached(self, evaluation: Evaluation) -> int:
        """k, or less where there are not as many other items."""
        return min(self.config.neighbours, len(evaluation) - 1)
