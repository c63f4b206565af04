"""The metric `emoji_styles`: whether drawings show the thing in the style, and captions name both in the language asked for. Torch-free.

Shapes: b items, s styles, n concepts, h w c pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ibllm.plugin import Metric, Panel
from ibllm_emoji.config import StylesConfig
from ibllm_emoji.styles.dataset import STYLES, EmojiStylesDataset, Truth
from ibllm_emoji.styles.reader import Reader
from ibllm_emoji.styles.wording import read

if TYPE_CHECKING:
    from ibllm.plugin import Evaluation

Bool = npt.NDArray[np.bool_]
U8 = npt.NDArray[np.uint8]


def shifted(images: U8) -> U8:
    """(b h w c) one thirty-second of the side to the right and down, white where they came from."""
    by = max(1, images.shape[1] // 32)
    out = np.full_like(images, 255)
    out[:, by:, by:] = images[:, :-by, :-by]
    return out


def mean_drawings(dataset: EmojiStylesDataset) -> U8:
    """(s h w c) the mean of each style's training drawings."""
    gallery = dataset.gallery
    means = []
    for style, images in enumerate(gallery.images):
        trained = sorted({number for number, at, _ in gallery.items["train"] if at == style})
        means.append(np.mean(images[trained], axis=0, dtype=np.float64))
    return np.round(np.stack(means)).astype(np.uint8)


class EmojiStylesMetric(Metric):
    """Drawings against the real ones of the style, captions against the thing's name and style.

    Beside the model's figures stand what is had for nothing, measured by the same reader on the same items: *copied*, the same thing
    as another artist drew it, each of the others an equal part of the figure; *mean*, the mean drawing of the style; and the ceiling,
    the real drawing moved by a pixel, which says what the reader itself can read.
    """

    def __init__(self, config: StylesConfig, context: Any) -> None:
        self.captions = config.captions
        self._readers: dict[int, Reader] = {}

    def _truth(self, evaluation: Evaluation) -> tuple[Truth, EmojiStylesDataset]:
        truth, dataset = evaluation.samples.truth, evaluation.dataset
        if not isinstance(truth, Truth) or not isinstance(dataset, EmojiStylesDataset):
            raise ValueError("the metric emoji_styles reads the drawings of the dataset emoji_styles: use it, or leave it out")
        return truth, dataset

    def _reader(self, dataset: EmojiStylesDataset) -> Reader:
        if id(dataset.gallery) not in self._readers:
            self._readers = {id(dataset.gallery): Reader.of(dataset.gallery)}
        return self._readers[id(dataset.gallery)]

    def _drawn(self, evaluation: Evaluation, images: U8) -> dict[str, Bool]:
        """(b h w c), a picture an item → concept, style and both right."""
        truth, dataset = self._truth(evaluation)
        reader = self._reader(dataset)
        concept = reader.concept_right(images, truth.concepts, truth.styles)
        style = reader.style_right(images, truth.styles)
        return {"concept": concept, "style": style, "both": concept & style}

    def _references(self, evaluation: Evaluation) -> dict[str, float]:
        """The floors and the ceiling."""
        truth, dataset = self._truth(evaluation)
        images = dataset.gallery.images
        copied = [self._drawn(evaluation, images[(truth.styles + turn) % len(images), truth.concepts]) for turn in range(1, len(images))]
        mean = self._drawn(evaluation, mean_drawings(dataset)[truth.styles])
        ceiling = self._drawn(evaluation, shifted(images[truth.styles, truth.concepts]))
        found = {f"copied_{what}": float(np.mean([some[what] for some in copied])) for what in ("concept", "style", "both")}
        found |= {f"mean_{what}": float(mean[what].mean()) for what in ("concept", "style", "both")}
        return found | {"ceiling_both": float(ceiling["both"].mean())}

    def _read(self, evaluation: Evaluation) -> dict[str, Bool]:
        """What the captions of the real drawings name rightly, in the language asked for."""
        truth, dataset = self._truth(evaluation)
        gallery = dataset.gallery
        concept, style = (np.zeros(len(evaluation), dtype=np.bool_) for _ in range(2))
        for place, (caption, language) in enumerate(zip(evaluation.read, evaluation.languages, strict=True)):
            said = read(caption, language)
            if said is not None:
                number, at = int(truth.concepts[place]), int(truth.styles[place])
                alike = np.flatnonzero(gallery.looks[at] == gallery.looks[at, number]).tolist()
                concept[place] = said.name in {gallery.concepts[other].names[language] for other in alike}
                style[place] = said.style == STYLES[at]
        return {"caption_concept": concept, "caption_style": style, "caption_right": concept & style}

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        drawn = self._drawn(evaluation, evaluation.generated)
        found = {f"{what}_right": float(right.mean()) for what, right in drawn.items()}
        found |= evaluation.once("emoji_styles.references", lambda: self._references(evaluation))
        return found | {what: float(right.mean()) for what, right in self._read(evaluation).items()} if self.captions else found

    def marks(self, evaluation: Evaluation) -> Mapping[str, Bool]:
        marks = {"drawing": self._drawn(evaluation, evaluation.generated)["both"]}
        return marks | {"caption": self._read(evaluation)["caption_right"]} if self.captions else marks

    def panels(self, evaluation: Evaluation) -> Iterable[Panel]:
        """The shares of each style."""
        truth, _ = self._truth(evaluation)
        shares = {f"{what} right": right for what, right in self._drawn(evaluation, evaluation.generated).items()}
        if self.captions:
            shares["captions right"] = self._read(evaluation)["caption_right"]
        rows: list[list[str | int | float]] = []
        for number, style in enumerate(STYLES):
            of_style = truth.styles == number
            if of_style.any():
                rows.append([style, int(of_style.sum()), *(float(right[of_style].mean()) for right in shares.values())])
        return [Panel(title="Style by style", header=("style", "items", *shares), rows=rows)]
