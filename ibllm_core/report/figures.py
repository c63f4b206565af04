"""What figures mean, in plain words, and how they are put into a table; shared by the page and the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

TEXT_TO_IMAGE, IMAGE_TO_TEXT, ROUND_TRIP, OTHER = "text → image", "image → text", "round trip", "other figures"
DIRECTIONS = (TEXT_TO_IMAGE, IMAGE_TO_TEXT, ROUND_TRIP, OTHER)

#: To be said wherever self-agreement is shown.
NOT_INDEPENDENT = "not independent: the captioner's gradients trained the generator"
#: The same of figures that the model's reading half gives of its drawing half.
JUDGED_BY_ITSELF = "not independent: judged by parts whose gradients may have trained the generator"


@attrs.frozen(kw_only=True)
class Meaning:
    """How a figure is read.

    Attributes:
        counted: the result key with the number it is a fraction of (``items``, ``objects``); None where no interval can be given.
        percent: shown × 100 with a percent sign.
        caution: what keeps the figure from being taken at its word; shown beside it everywhere.
    """

    label: str
    direction: str = OTHER
    explanation: str = ""
    counted: str | None = None
    percent: bool = False
    caution: str = ""

    @property
    def full_label(self) -> str:
        return f"{self.label} ({self.caution.split(':')[0]})" if self.caution else self.label


def _fraction(label: str, direction: str, explanation: str, counted: str | None = "items", caution: str = "") -> Meaning:
    return Meaning(label=label, direction=direction, explanation=explanation, counted=counted, percent=True, caution=caution)


KNOWN: Mapping[str, Meaning] = {
    "scene_exact": _fraction(
        "scenes right",
        TEXT_TO_IMAGE,
        "Generated images in which every object has the right colour, shape, size and place and nothing else is there, "
        "as found by the dataset's own reader, which is no part of the model.",
    ),
    "object_exact": _fraction(
        "objects right",
        TEXT_TO_IMAGE,
        "Single objects drawn with everything right, whatever else is wrong in their image.",
        counted="objects",
    ),
    "retrieval_top1": _fraction(
        "nearest drawing is the right one",
        TEXT_TO_IMAGE,
        "Generated images whose nearest drawing, pixel by pixel among all candidates, is the one their caption belongs to.",
    ),
    "retrieval_top5": _fraction(
        "right drawing among the nearest five",
        TEXT_TO_IMAGE,
        "Generated images whose caption's own drawing is among the five nearest, pixel by pixel among all candidates.",
    ),
    "caption_base": _fraction(
        "captions right but for the skin tone",
        IMAGE_TO_TEXT,
        "Captions that are a name of the drawing, whatever skin tone they state.",
    ),
    "diversity": Meaning(
        label="diversity",
        direction=TEXT_TO_IMAGE,
        explanation="How much images of one caption differ when only the noise differs; near 0, the noise is ignored.",
    ),
    "caption_exact": _fraction(
        "captions right",
        IMAGE_TO_TEXT,
        "Captions of real images that state every fact of the image and invent none. Facts are compared, not wording.",
    ),
    "caption_object_precision": _fraction(
        "objects stated that are there", IMAGE_TO_TEXT, "Of all objects that captions state, how many are in the image.", None
    ),
    "caption_object_recall": _fraction(
        "objects there that are stated", IMAGE_TO_TEXT, "Of all objects in the images, how many their captions state.", None
    ),
    "bleu": Meaning(
        label="BLEU",
        direction=IMAGE_TO_TEXT,
        explanation="Overlap of word sequences with the reference captions, 0–1. Wording counts, so a right caption in other words loses points.",
    ),
    "chrf": Meaning(
        label="chrF",
        direction=IMAGE_TO_TEXT,
        explanation="Overlap of character sequences with the reference captions, 0–1; kinder to near misses than BLEU.",
    ),
    "cider": Meaning(
        label="CIDEr-D",
        direction=IMAGE_TO_TEXT,
        explanation="Overlap of word sequences with the reference captions, rare ones counting more, 0–10. Wording counts here too.",
    ),
    **{
        f"{found}_recall_{k}": Meaning(
            label=label.format(k),
            direction=IMAGE_TO_TEXT,
            explanation=f"{what} is {place} of a pool, as the model itself scores them.",
            percent=True,
        )
        for found, label, what in (
            ("image", "image found for its caption, R@{}", "Captions whose real image"),
            ("caption", "caption found for its image, R@{}", "Real images whose caption"),
        )
        for k, place in ((1, "the best"), (5, "among the five best"), (10, "among the ten best"))
    },
    "r_precision": _fraction(
        "R-precision",
        TEXT_TO_IMAGE,
        "Generated images whose own caption is scored above 99 others of other words.",
        None,
        caution=JUDGED_BY_ITSELF,
    ),
    "r_precision_times_chance": Meaning(
        label="R-precision × chance",
        direction=TEXT_TO_IMAGE,
        explanation="R-precision over what guessing would give; 1 is chance.",
        caution=JUDGED_BY_ITSELF,
    ),
    "r_precision_shuffled": _fraction(
        "R-precision, shuffled captions",
        TEXT_TO_IMAGE,
        "The control: each image judged as if it were another caption's. It must come out at chance, 1 % with 100 captions.",
        None,
    ),
    **{
        f"{kind}_{space}": Meaning(
            label=f"{label} distance, {space}",
            direction=TEXT_TO_IMAGE,
            explanation=f"{text} of generated from real images by {features}; less is better. Comparable only with the same data and number of items.",
            caution=JUDGED_BY_ITSELF if space == "encoder" else "",
        )
        for kind, label, text in (
            ("frechet", "Fréchet", "Distance of means and covariances"),
            ("kernel", "kernel", "Squared mean discrepancy"),
        )
        for space, features in (
            ("pixels", "their pixels, made few"),
            ("random", "features of a network with random weights"),
            ("encoder", "the image encoder's own latents"),
        )
    },
    "roundtrip_exact": _fraction(
        "round trips right",
        ROUND_TRIP,
        "Caption → image → caption: the dataset's own reader finds the drawn scene right and the model's captioner gives the caption back.",
    ),
    "self_agreement": _fraction(
        "self-agreement",
        ROUND_TRIP,
        "The model's own captioner gives the caption back from the generated image. It shows that the two halves agree, not that either is right.",
        caution=NOT_INDEPENDENT,
    ),
}

#: Result keys that count what a fraction is taken of; they are no figures themselves.
COUNTS = frozenset({"items", "objects"})

SPLITS: Mapping[str, str] = {
    "train": "items seen in training",
    "validation": "new items of the training's kind, looked at during training",
    "test": "new items of the training's kind",
    "novel": "combinations never seen in training",
    "novel-validation": "other unseen combinations, looked at during training",
    "tone": "in a skin tone never seen for that person or hand",
    "concept": "concepts never seen; each of their words was",
}
PRIMARY = ("novel", "test")


def meaning(figure: str) -> Meaning:
    """A figure's meaning. In ``zh/bleu`` or ``bleu/zh`` the known word counts and the rest qualifies it; unknown figures are taken as plain numbers."""
    if figure in KNOWN:
        return KNOWN[figure]
    words = figure.split("/")
    for k, word in enumerate(words):
        if word in KNOWN:
            # How many items a qualified figure was taken over is not known, so it has no interval.
            return attrs.evolve(KNOWN[word], label=f"{KNOWN[word].label}, {' '.join(words[:k] + words[k + 1 :])}", counted=None)
    return Meaning(label=figure.replace("_", " ").replace("/", ", "))


def told(record: Mapping[str, Any]) -> str:
    """How a figure came about, as one line: ``n 512, extractor random, features 64``."""
    return ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in record.items())


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def shown(value: float, percent: bool) -> str:
    """0.9316 → ``93.2 %``; 95.213 → ``95.2``; 0.03125 → ``0.0312``."""
    if percent:
        return f"{100 * value:.1f} %"
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def wilson(fraction: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a fraction of n (95 % by default; Wilson 1927, JASA 22:209)."""
    centre = fraction + z * z / (2 * n)
    half = z * math.sqrt(fraction * (1 - fraction) / n + z * z / (4 * n * n))
    return max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n))


@attrs.frozen(kw_only=True)
class Cell:
    """One figure of one split. `interval` is the 95 % interval as text, empty where n is not known."""

    value: float
    text: str
    n: int | None = None
    interval: str = ""


@attrs.frozen(kw_only=True)
class Row:
    """One figure over the splits."""

    figure: str
    meaning: Meaning
    cells: Mapping[str, Cell]


@attrs.frozen(kw_only=True)
class Table:
    """Figures as rows, splits as columns."""

    splits: Sequence[str]
    rows: Sequence[Row]
    primary: str | None

    def groups(self) -> list[tuple[str, list[Row]]]:
        """Rows by direction; directions without rows are left out."""
        by_direction = [(direction, [row for row in self.rows if row.meaning.direction == direction]) for direction in DIRECTIONS]
        return [(direction, rows) for direction, rows in by_direction if rows]


def split_of(key: str) -> tuple[str, str]:
    """``novel/scene_exact`` → (``novel``, ``scene_exact``); a key without a split belongs to the split ````."""
    split, slash, figure = key.partition("/")
    return (split, figure) if slash else ("", key)


def primary_split(splits: Iterable[str]) -> str | None:
    """The split that a reader looks at first."""
    found = list(splits)
    return next((split for split in PRIMARY if split in found), found[0] if found else None)


def table(results: Mapping[str, Any], items: int | Mapping[str, int] | None = None) -> Table:
    """The flat results of a run as a table.

    Args:
        results: ``split/figure`` → value; ``split/items`` (and ``split/objects``) give the number that fractions were taken of.
        items: the number of items where `results` does not say: of every split, or split → number.
    """
    known = {key: float(value) for key, value in results.items() if is_number(value)}
    keys = [(*split_of(key), value) for key, value in known.items()]
    splits = list(dict.fromkeys(split for split, figure, _ in keys if figure not in COUNTS))
    figures = dict.fromkeys(figure for _, figure, _ in keys if figure not in COUNTS)
    order = {name: k for k, name in enumerate(KNOWN)}
    rows = []
    for figure in sorted(figures, key=lambda name: (DIRECTIONS.index(meaning(name).direction), order.get(name, len(order)))):
        about = meaning(figure)
        cells = {split: _cell(value, about, _count(known, split, about, items)) for split, name, value in keys if name == figure}
        rows.append(Row(figure=figure, meaning=about, cells=cells))
    return Table(splits=splits, rows=rows, primary=primary_split(splits))


def _count(known: Mapping[str, float], split: str, about: Meaning, items: int | Mapping[str, int] | None) -> int | None:
    if about.counted is None:
        return None
    found = known.get(f"{split}/{about.counted}" if split else about.counted)
    if found is None and about.counted == "items" and items is not None:
        found = items if isinstance(items, int) else items.get(split)
    return int(found) if found is not None and found >= 1 else None


def _cell(value: float, about: Meaning, n: int | None) -> Cell:
    interval = ""
    if n is not None and 0 <= value <= 1:
        low, high = wilson(value, n)
        interval = f"{100 * low:.1f}–{100 * high:.1f} %"
    return Cell(value=value, text=shown(value, about.percent), n=n, interval=interval)
