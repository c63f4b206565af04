"""Figures of a few drawings, which a row of figures gets while a model trains. Shapes: c captions, s samples of each, h w c' images."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ibllm.figures import ROUND_TRIP, TEXT_TO_IMAGE, Figure
from ibllm_core.interfaces.batch import take

if TYPE_CHECKING:
    from ibllm_core.training.session import Session

_FEW = "of few captions, and of the weights of that very step"
_READ = f"{_FEW}; as good as the captioner that reads them, which trains meanwhile"
#: What a row says of the drawings, under ``watch/``.
FIGURES = (
    Figure(
        "gradient_ratio",
        "gradient norm of the model over the critic's",
        meaning="Of the mean norms since the last row, before clipping.",
        caution="no ratio is right by itself: losses have units of their own; what counts is that it does not run away",
    ),
    Figure(
        "diversity",
        "distance among drawings of one caption",
        TEXT_TO_IMAGE,
        "The mean root-mean-square distance between drawings of one caption, over that between real images of different captions.",
        caution=f"{_FEW}; a caption that leaves nothing open has one right drawing, and a decoder without noise draws one",
    ),
    Figure(
        "variety",
        "distance among drawings of different captions",
        TEXT_TO_IMAGE,
        "The mean root-mean-square distance between drawings of different captions, over that between the captions' real images.",
        caution=f"{_FEW}; blurred drawings are below 1",
    ),
    Figure(
        "recall",
        "words of the captions' distribution that drawings have",
        ROUND_TRIP,
        "All captions' words together, attributes and all: the share of them that comes back when the drawings are read.",
        caution=_READ,
        percent=True,
        better="higher",
    ),
    Figure(
        "consistency",
        "words of a caption that its drawing has",
        ROUND_TRIP,
        "The mean share of a caption's words that comes back when its drawing is read.",
        caution=_READ,
        percent=True,
        better="higher",
    ),
)


def distance(images: npt.NDArray[np.float64]) -> float:
    """(… n g) → the mean root-mean-square distance between two of n vectors of g numbers, over all the leading axes."""
    n = images.shape[-2]
    apart = np.sqrt(np.square(images[..., :, None, :] - images[..., None, :, :]).mean(-1))
    return float(apart.sum((-1, -2)).mean() / (n * (n - 1)))


class Drawings:
    """Draws the first captions of a split, always with the same noise, and measures what is drawn.

    Args:
        captions, samples: how many, and how many drawings of each.
    """

    def __init__(self, session: Session, split: str, captions: int, samples: int) -> None:
        self._session, self._samples = session, samples
        count = min(captions, session.dataset.sizes().get(split, 0))
        can = {"text_encoder", "image_decoder"} <= set(session.model.parts)
        found = take(session.dataset, split, np.arange(count)) if count > 1 and can else None
        there = found is not None and found.captions is not None and found.images is not None
        self.captions = list(found.captions) if there and found is not None and found.captions is not None else []
        self._real = distance(_flat(found.images)) if there and found is not None and found.images is not None else 0.0

    @property
    def left_out(self) -> str:
        """Which figures cannot be measured here, and why; empty where all can."""
        if not self._real:
            return "diversity, variety, recall and consistency are left out: nothing is drawn from captions here, or the split has fewer than two items"
        if not self._reads:
            return "recall and consistency are left out: the model has no captioner to read drawings"
        return ""

    @property
    def _reads(self) -> bool:
        return {"image_encoder", "text_decoder"} <= set(self._session.model.parts)

    def figures(self) -> dict[str, float]:
        """Figure → value; empty where there is nothing to draw."""
        if not self._real:
            return {}
        session, model, each = self._session, self._session.model, self._samples
        seed, batch = session.recipe.seed.evaluation, session.recipe.evaluation.batch
        asked = [caption for caption in self.captions for _ in range(each)]
        drawn = model.generate(asked, seed=seed, batch=batch)
        first = drawn[::each]
        flat = _flat(drawn)
        found = {
            "diversity": distance(flat.reshape(len(self.captions), each, -1)) / self._real,
            "variety": distance(flat[::each]) / self._real,
        }
        if self._reads:
            encode = model.tokenizers["text_decoder"].encode_one
            read = [Counter(encode(text)) for text in model.caption(first, seed=seed, beams=1, batch=batch)]
            wanted = [Counter(encode(text)) for text in self.captions]
            shares = [(w & r).total() / max(w.total(), 1) for w, r in zip(wanted, read, strict=True)]
            of, back = sum(wanted, Counter()), sum(read, Counter())
            found |= {"recall": (of & back).total() / max(of.total(), 1), "consistency": float(np.mean(shares))}
        return {f"watch/{name}": value for name, value in found.items()}


def _flat(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    return images.reshape(len(images), -1) / 255.0
