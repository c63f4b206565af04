"""The metric `clock_time`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from ibllm.plugin import Context, Evaluation, Metric

from ibllm_clocks.config import ClockTimeConfig
from ibllm_clocks.dataset import Times
from ibllm_clocks.faces import TURN, faces


class ClockTimeMetric(Metric):
    """``clock_exact``: the fraction of drawn clocks that show the time asked for; ``clock_minutes_off``: by how much they are wrong, on
    average, the shorter way round (chance is 180 minutes).
    """

    def __init__(self, config: ClockTimeConfig, context: Context) -> None:
        pass

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        off = minutes_off(evaluation)
        return {"clock_exact": float((off == 0).mean()), "clock_minutes_off": float(off.mean())}

    def marks(self, evaluation: Evaluation) -> Mapping[str, npt.NDArray[np.bool_]]:
        return {"clock": minutes_off(evaluation) == 0}


def minutes_off(evaluation: Evaluation) -> npt.NDArray[np.int64]:
    """(b) how many minutes the drawn clocks are wrong."""
    truth = evaluation.samples.truth
    if not isinstance(truth, Times):
        raise ValueError("the metric clock_time reads the times of the dataset clocks: use it, or leave the metric out")
    apart = np.abs(read(evaluation.generated, truth.step) - truth.minutes)
    off: npt.NDArray[np.int64] = np.minimum(apart, TURN - apart)
    return off


def read(images: npt.NDArray[np.uint8], step: int) -> npt.NDArray[np.int64]:
    """images (b h w c) → (b) the time whose face is nearest by squared distance over RGB."""
    known = faces(images.shape[1], step).reshape(TURN // step, -1).astype(np.float32) / 255
    flat = images.reshape(len(images), -1).astype(np.float32) / 255
    # ‖a − b‖² without ‖a‖², which moves no minimum.
    nearest: npt.NDArray[np.int64] = ((known * known).sum(1) - 2 * flat @ known.T).argmin(1)
    return nearest * step
