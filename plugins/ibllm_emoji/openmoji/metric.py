"""Figures of the dataset `openmoji`: drawings are read by looking for the nearest one, captions by looking for them among the names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ibllm.plugin import Metric
from ibllm_emoji.openmoji.dataset import Collection, OpenmojiDataset, Truth

if TYPE_CHECKING:
    from ibllm.plugin import Evaluation

Bool = npt.NDArray[np.bool_]


def nearest_drawings(images: npt.NDArray[np.uint8], collection: Collection, split: str) -> npt.NDArray[np.int64]:
    """images (b h w c) → (b) the identity of the nearest drawing (squared distance over RGB) among those of `train` and of `split`."""
    candidates = np.array(sorted({i for name in ("train", split) for i, _ in collection.items[name]}), dtype=np.int64)
    bank = collection.images[candidates].reshape(len(candidates), -1).astype(np.float32) / 255
    # ‖a − b‖² without ‖a‖², which moves no minimum.
    flat = images.reshape(len(images), -1).astype(np.float32) / 255
    nearest = ((bank * bank).sum(1) - 2 * flat @ bank.T).argmin(1)
    found: npt.NDArray[np.int64] = collection.identity[candidates[nearest]]
    return found


def known_names(collection: Collection) -> tuple[Mapping[int, set[str]], Mapping[int, set[str]]]:
    """Identity → all names of what looks so, in all languages; and the same with the names in other skin tones."""
    of_base: dict[str, set[str]] = defaultdict(set)
    for drawing in collection.drawings:
        of_base[drawing.base] |= set(drawing.names.values())
    exact: dict[int, set[str]] = defaultdict(set)
    loose: dict[int, set[str]] = defaultdict(set)
    for number, drawing in zip(collection.identity.tolist(), collection.drawings, strict=True):
        exact[number] |= set(drawing.names.values())
        loose[number] |= of_base[drawing.base]
    return exact, loose


class NamesMetric(Metric):
    """Captions against names.

    ``caption_exact``: the caption of the real image is a name of the drawing, or of one that looks the same, in any language of the data;
    ``caption_base``: the same, whatever the skin tone; ``roundtrip_exact``: the drawing nearest to the generated image is the right
    one and the caption read off the generated image names it; ``self_agreement``: the latter alone, which is not independent.
    """

    def __init__(self, config: Any, context: Any) -> None:
        pass

    def _found(self, evaluation: Evaluation) -> dict[str, Bool]:
        truth, dataset = evaluation.samples.truth, evaluation.dataset
        if not isinstance(truth, Truth) or not isinstance(dataset, OpenmojiDataset):
            raise ValueError("the metric openmoji_names reads the drawings of the dataset openmoji: use it, or leave it out")
        exact, loose = known_names(dataset.collection)
        drawn = nearest_drawings(evaluation.generated, dataset.collection, evaluation.split) == truth.identity

        def named(captions: Sequence[str], names: Mapping[int, set[str]]) -> Bool:
            return np.array([text in names[n] for text, n in zip(captions, truth.identity.tolist(), strict=True)], dtype=np.bool_)

        agrees = named(evaluation.reread, exact)
        return {
            "caption_exact": named(evaluation.read, exact),
            "caption_base": named(evaluation.read, loose),
            "roundtrip_exact": agrees & drawn,
            "self_agreement": agrees,
        }

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        return {figure: float(right.mean()) for figure, right in self._found(evaluation).items()}

    def marks(self, evaluation: Evaluation) -> Mapping[str, Bool]:
        found = self._found(evaluation)
        return {"caption": found["caption_exact"], "roundtrip": found["roundtrip_exact"], "self_agreement": found["self_agreement"]}
