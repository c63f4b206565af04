"""Whether single drawings are as sharp as the data, and how much drawings of one caption differ. Torch-free. Shapes: k draws, b items, h w c image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ibllm.plugin import Context, Metric
from ibllm_metrics.config import CommitmentConfig
from ibllm_metrics.images import several

if TYPE_CHECKING:
    from ibllm.plugin import Evaluation

Pixels = npt.NDArray[np.uint8]


def detail(images: Pixels) -> float:
    """images (… h w c), of 0..255 → the mean square of the Laplacian of the pixels in [0, 1], over pixels, channels and images.

    The Laplacian of a pixel is the sum of its differences from its four neighbours; beyond the edge nothing differs. A wave of frequencies u, v
    (in radians by pixel) counts with (4 − 2·cos u − 2·cos v)², so that it is the highest frequencies that count. Its variance is a usual
    measure of focus (Pech-Pacheco et al. 2000).
    """
    y = images.astype(np.float64) / 255
    laplacian = np.zeros_like(y)
    for axis in (-3, -2):
        step = np.diff(y, axis=axis)
        at_left, at_right = [(0, 0)] * y.ndim, [(0, 0)] * y.ndim
        at_left[axis], at_right[axis] = (0, 1), (1, 0)
        laplacian += np.pad(step, at_left) - np.pad(step, at_right)
    return float(np.square(laplacian).mean())


def spread_error_ratio(drawn: Pixels, real: Pixels) -> float:
    """√((k + 1) / k · mean variance of the drawings of a caption / mean square error of their mean), drawn (k b h w c), real (b h w c).

    It is 1 where a caption's real image could be one of its drawings as well as any (Fortin et al. 2014: spread and error of ensembles), whatever
    the captions leave open. Where the mean is the real image itself, pixel by pixel, it is 1.
    """
    k = len(drawn)
    y = drawn.astype(np.float64)
    variance, error = y.var(0, ddof=1).mean(), np.square(y.mean(0) - real).mean()
    return float(np.sqrt((k + 1) / k * variance / error)) if error > 0 else 1.0


class CommitmentMetric(Metric):
    """`detail` of the generated images over that of the real ones, and `spread_error_ratio`."""

    def __init__(self, config: CommitmentConfig, context: Context) -> None:
        self.config = config

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        drawn, of_data = several(evaluation, self.config.draws), detail(evaluation.real)
        if of_data == 0:
            raise ValueError(
                f"the metric commitment compares detail, and the images of the split {evaluation.split} are of one colour each"
            )
        return {"sharpness": detail(drawn) / of_data, "spread_error_ratio": spread_error_ratio(drawn, evaluation.real)}

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        return {**super().record(evaluation), "extractor": "RGB", "draws": self.config.draws, "detail of the data": detail(evaluation.real)}
