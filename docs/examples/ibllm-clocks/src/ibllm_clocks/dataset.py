"""The dataset `clocks`."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import numpy as np
import numpy.typing as npt
from ibllm.plugin import Context, Dataset, Samples, Stream

from ibllm_clocks.config import ClocksConfig
from ibllm_clocks.faces import TURN, faces, words


@attrs.frozen(eq=False)
class Times:
    """What the items show: (b) minutes after twelve; and the step between the times of the data."""

    minutes: npt.NDArray[np.int64]
    step: int


class ClockDataset(Dataset):
    """Each item is a time of its split. Which times are held out follows from the data seed."""

    def __init__(self, config: ClocksConfig, context: Context) -> None:
        self.config, self.image_shape = config, config.image_shape
        times = TURN // config.step
        shuffled = Stream((context.seed, "clocks", "splits"), [0]).permutation(times)[0] * config.step
        half = max(1, round(times * config.held_out / 2))
        self._times = {"validation": shuffled[:half], "test": shuffled[half : 2 * half], "train": shuffled[2 * half :]}

    def sizes(self) -> Mapping[str, int]:
        return {split: len(times) for split, times in self._times.items()}

    def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
        minutes = self._times[split][indices]
        return Samples(
            indices=indices,
            images=faces(self.config.size, self.config.step)[minutes // self.config.step],
            captions=[words(int(time)) for time in minutes],
            languages=["en"] * len(minutes),
            truth=Times(minutes, self.config.step),
        )
