"""Distances between the distributions of generated and of real images, in a stated feature space. Shapes: b images, d features."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ibllm.plugin import Context, Metric
from ibllm_metrics.config import FrechetConfig, KernelConfig
from ibllm_metrics.features import both, described

if TYPE_CHECKING:
    from ibllm.plugin import Evaluation

Features = npt.NDArray[np.float64]


def frechet_distance(x: Features, y: Features) -> float:
    """‖μ_x − μ_y‖² + Tr(Σ_x + Σ_y − 2·(Σ_x Σ_y)^½) for x (b d), y (b' d): Dowson and Landau 1982, Heusel et al. 2017, eq. 6.

    The trace of the root is that of (Σ_x^½ Σ_y Σ_x^½)^½, which is symmetric. The estimate is too large by an amount that grows with d / b.
    """
    difference = x.mean(0) - y.mean(0)
    cov_x, cov_y = np.atleast_2d(np.cov(x, rowvar=False)), np.atleast_2d(np.cov(y, rowvar=False))
    values, vectors = np.linalg.eigh(cov_x)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ cov_y @ root).clip(min=0)).sum()
    return float(difference @ difference + np.trace(cov_x) + np.trace(cov_y) - 2 * shared)


def kernel_distance(x: Features, y: Features) -> float:
    """The unbiased squared maximum mean discrepancy of x (b d), y (b' d) for the kernel (xᵀy / d + 1)³.

    Gretton et al. 2012, eq. 3; Bińkowski et al. 2018, section 4. Its expectation does not depend on b, and it may be a little below 0.
    """

    def kernel(a: Features, b: Features) -> Features:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: Features) -> float:
        k = kernel(a, a)
        return float((k.sum() - np.trace(k)) / (len(a) * (len(a) - 1)))

    return within(x) + within(y) - 2 * float(kernel(x, y).mean())


class _Distance(Metric):
    config: FrechetConfig | KernelConfig

    @abstractmethod
    def distance(self, real: Features, generated: Features) -> float:
        """Between two sets of features."""

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        real, generated = both(self.config, evaluation)
        if len(real) < 2:
            raise ValueError(f"the metrics frechet and kernel need at least 2 items; the split {evaluation.split} has {len(real)}")
        return {self.config.names()[0]: self.distance(real, generated)}

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        return {**super().record(evaluation), **described(self.config, evaluation)}


class FrechetMetric(_Distance):
    """`frechet_distance` between the split's real images and those generated from its captions; less is better."""

    config: FrechetConfig

    def __init__(self, config: FrechetConfig, context: Context) -> None:
        self.config = config

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        found = dict(super().record(evaluation))
        if len(evaluation) > int(found["features"]):
            return found
        # A covariance of n items has rank n − 1 at most.
        caution = f"biased upwards: {len(evaluation)} items for {found['features']} features are too few for their covariance"
        return found | {f"caution {self.config.names()[0]}": caution}

    def distance(self, real: Features, generated: Features) -> float:
        return frechet_distance(real, generated)


class KernelMetric(_Distance):
    """`kernel_distance` between the split's real images and those generated from its captions; less is better."""

    def __init__(self, config: KernelConfig, context: Context) -> None:
        self.config = config

    def distance(self, real: Features, generated: Features) -> float:
        return kernel_distance(real, generated)
