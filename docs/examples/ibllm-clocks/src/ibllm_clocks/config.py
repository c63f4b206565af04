"""The options. Torch-free: a recipe is checked before torch is imported."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from ibllm.plugin import TEXT_TO_IMAGE, DatasetConfig, Figure, Mark, MetricConfig, option

SPLITS: Mapping[str, str] = {
    "train": "times seen in training",
    "validation": "times held out, looked at during training",
    "test": "times never seen in training",
}


@attrs.frozen(kw_only=True)
class ClocksConfig(DatasetConfig):
    """A clock face with two hands, and its time as one says it: "twenty past seven". Every time of the day's half occurs in one split."""

    size: int = option(32, help="height and width of the images in pixels", ge=16, le=256)
    step: int = option(5, help="minutes between the times that occur", choices=(1, 5, 15, 30))
    held_out: float = option(0.2, help="fraction of the times that are in validation and test, half of them in each", gt=0, le=0.5)

    def splits(self) -> Mapping[str, str]:
        return SPLITS

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (3, self.size, self.size)


@attrs.frozen(kw_only=True)
class ClockTimeConfig(MetricConfig):
    """Drawn clocks are read by looking for the most similar of all faces."""

    def figures(self) -> tuple[Figure, ...]:
        exact = "Drawn clocks whose most similar face, of all that there are, shows the caption's time."
        off = "How far the time that a drawn clock shows is from its caption's, the shorter way round."
        return (
            Figure.share("clock_exact", "clocks right", TEXT_TO_IMAGE, exact),
            Figure("clock_minutes_off", "time off", TEXT_TO_IMAGE, off, unit="minutes", better="lower"),
        )

    def marks(self) -> tuple[Mark, ...]:
        return (
            Mark(
                "clock",
                "drawing",
                "time right",
                "time wrong",
                meaning="A clock is right if its most similar face shows the caption's time.",
            ),
        )

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "image_decoder"})
