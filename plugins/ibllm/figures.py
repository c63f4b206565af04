"""What a figure is and what a mark on a sample is: said by the metric that gives them, read by tables and reports. Torch-free."""

from __future__ import annotations

from typing import Self

import attrs

#: What a figure may be about; tables have a section for each, and for what else a metric says. The last one is for everything.
TEXT_TO_IMAGE, IMAGE_TO_TEXT, ROUND_TRIP, OTHER = "text → image", "image → text", "round trip", "other figures"
#: What a mark may be about: the generated image, the caption read off the real image, the caption read off the generated one, or both halves.
DRAWING, READING, RETURNED = "drawing", "caption read", "caption returned"

#: The caution of a figure for which the model's captioner judges the drawings of the generator that it was trained with.
NOT_INDEPENDENT = "not independent: the captioner's gradients trained the generator"


@attrs.frozen
class Figure:
    """One number that a metric gives for a split, and how it is read.

    Attributes:
        name: its key in results, after ``SPLIT/``. A metric may give qualified ones besides (``score/zh``), which are read alike.
        label: what tables call it; by default its name.
        direction: the section of a table, e.g. `TEXT_TO_IMAGE`.
        meaning: one or two sentences for a report.
        unit: of the number, e.g. ``dB``; fractions have none.
        better: ``higher`` or ``lower``; empty where neither is.
        caution: what keeps the figure from being taken at its word, shown beside it everywhere; up to a colon in tables.
        percent: a fraction, shown × 100 with a percent sign.
        counted: it is a share of the split's items, so that the number of items gives an interval.
    """

    name: str
    label: str = attrs.field(default=attrs.Factory(lambda self: self.name.replace("_", " ").replace("/", ", "), takes_self=True))
    direction: str = OTHER
    meaning: str = ""
    unit: str = attrs.field(default="", kw_only=True)
    better: str = attrs.field(default="", kw_only=True)
    caution: str = attrs.field(default="", kw_only=True)
    percent: bool = attrs.field(default=False, kw_only=True)
    counted: bool = attrs.field(default=False, kw_only=True)

    @classmethod
    def share(cls, name: str, label: str, direction: str, meaning: str, caution: str = "") -> Self:
        """The share of a split's items that are right: shown in percent with an interval, and higher is better."""
        return cls(name, label, direction, meaning, caution=caution, better="higher", percent=True, counted=True)

    @property
    def full_label(self) -> str:
        """The label with its caution in short."""
        return f"{self.label} ({self.caution.split(':')[0]})" if self.caution else self.label

    def shown(self, value: float) -> str:
        """0.9316 → ``93.2 %``; 95.213 → ``95.2``; 0.03125 → ``0.0312``; with its unit."""
        if self.percent:
            return f"{100 * value:.1f} %"
        number = f"{value:.0f}" if value == int(value) else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
        return f"{number} {self.unit}".rstrip()


@attrs.frozen
class Mark:
    """Right or wrong, said of single samples.

    Attributes:
        name: its key in what `Metric.marks` gives.
        about: ``drawing``, ``caption read``, ``caption returned`` or ``round trip``.
        right, wrong: the words for it, e.g. ``image right`` and ``image wrong``.
        meaning: one or two sentences for a report: when it is right, and who says so.
        caution: why it is no judgement; it is then shown in words, with neither tick nor cross.
    """

    name: str
    about: str = DRAWING
    right: str = attrs.field(default=attrs.Factory(lambda self: f"{self.name}: right", takes_self=True))
    wrong: str = attrs.field(default=attrs.Factory(lambda self: f"{self.name}: wrong", takes_self=True))
    meaning: str = attrs.field(default="", kw_only=True)
    caution: str = attrs.field(default="", kw_only=True)
