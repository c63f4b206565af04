"""How far generated images are from being scenes at all: what the reader's best explanation of them leaves unexplained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ibllm.plugin import Metric
from ibllm_shapes.reader import read
from ibllm_shapes.render import render
from ibllm_shapes.scenes import Scenes

if TYPE_CHECKING:
    from ibllm.plugin import Evaluation


def residuals(images: npt.NDArray[np.uint8], truth: Scenes) -> npt.NDArray[np.float64]:
    """(b) root mean squared difference, in 0..1, between pictures (b h w 3) and the drawings of what the reader finds in them.

    `truth` says of what kind the scenes are, not what is in them. Where the reader finds no scene at all, or too many objects for one, the drawing
    is the empty background.
    """
    drawn = render(read(images, truth.placement, truth.colours, truth.forms).scenes)
    wrong = (images.astype(np.float32) - drawn) / np.float32(255)
    found: npt.NDArray[np.float64] = np.sqrt((wrong.astype(np.float64) ** 2).mean(axis=(1, 2, 3)))
    return found


class ResidualMetric(Metric):
    """Text → image: ``residual``, the mean of `residuals`."""

    def __init__(self, config: Any, context: Any) -> None:
        pass

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        truth = evaluation.samples.truth
        if not isinstance(truth, Scenes):
            raise ValueError("the metric residual reads the scenes of the dataset shapes: use it, or leave the metric out")
        return {"residual": float(residuals(evaluation.generated, truth).mean())}
