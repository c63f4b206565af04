"""The dataset `attacks`: items that an attack was made on (``ibllm attack --save``), among the data that they are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from ibllm.plugin import Context, Dataset, Samples, UserError
from ibllm_robust.config import AttacksConfig


class AttacksDataset(Dataset):
    """The training data of a run that was attacked, a share of its items the attacked ones; every other split is as it was.

    An attacked item has the caption, the question and the answer of its data, and in the place of its image, or of its caption, what the attack made of it.
    """

    def __init__(self, config: AttacksConfig, context: Context) -> None:
        self.config, base = config, config.base
        self._data: Dataset = base.build(context.seed)
        # The items that were attacked are those of the attacked run's seed.
        self._attacked: Dataset = self._data if context.seed == base.seed else base.build(base.seed)
        self.image_shape, self.licence = self._data.image_shape, self._data.licence
        self._images = base.images()
        self._texts = base.texts
        self._count = base.items
        if self._images is not None and self._images.shape[1:] != (*self.image_shape[1:], self.image_shape[0]):
            raise UserError(
                f"{config.path}: its images are {self._images.shape[1:]}: expected those of its data, (c h w) = {self.image_shape}"
            )

    def sizes(self) -> Mapping[str, int]:
        return self._data.sizes()

    def attribution(self) -> str | None:
        return self._data.attribution()

    def notes(self) -> list[str]:
        """What a run tells of its data before it begins (`ibllm.data_notes`)."""
        base = self.config.base
        own: Any = getattr(self._data, "notes", None)
        share = f"{100 * self.config.share:g} % of the training items"
        said = f"{self.config.path}: {share} are {self._count} attacked ones, by {base.use} with the strength {base.strength}"
        return [said, *(own() if own is not None else [])]

    def _which(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """(b) which items of the split train are attacked ones: evenly spread, so that any stretch of items has its share."""
        share = self.config.share
        found: npt.NDArray[np.bool_] = np.floor((indices + 1) * share + 1e-9) > np.floor(indices * share + 1e-9)
        return found

    def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
        indices = np.atleast_1d(np.asarray(indices, dtype=np.int64))
        found = self._data.samples(split, indices)
        if split != "train" or not (attacked := self._which(indices)).any():
            return found
        # The n-th attacked place has the n-th attacked item, from the first one again where there are no more.
        places = np.floor(indices[attacked] * self.config.share + 1e-9).astype(np.int64) % self._count
        other = self._attacked.samples("train", places)
        images = None if other.images is None else np.array(other.images) if self._images is None else self._images[places]
        captions = other.captions if self._texts is None else [self._texts[place] for place in places.tolist()]
        merged = attrs.evolve(other, images=images, captions=captions)
        return Samples(
            indices=indices,
            images=_mixed(found.images, merged.images, attacked),
            captions=_words(found.captions, merged.captions, attacked),
            languages=_words(found.languages, merged.languages, attacked),
            questions=_words(found.questions, merged.questions, attacked),
            answers=_words(found.answers, merged.answers, attacked),
        )

    def corpus(self, split: str = "train", limit: int | None = None) -> Sequence[str]:
        """Those of the data: an attacked text shall not teach a tokenizer its slips."""
        return self._data.corpus(split, limit)


def _mixed(clean: Any, attacked: Any, which: npt.NDArray[np.bool_]) -> Any:
    if clean is None or attacked is None:
        return None
    out = np.array(clean)
    out[which] = attacked
    return out


def _words(clean: Sequence[str] | None, attacked: Sequence[str] | None, which: npt.NDArray[np.bool_]) -> list[str] | None:
    if clean is None or attacked is None:
        return None
    others = iter(attacked)
    return [next(others) if other else own for own, other in zip(clean, which.tolist(), strict=True)]
