"""The dataset `attacks`: items that an attack was made on (``ibllm attack --save``), among the data that they are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ibllm.plugin import Context, Dataset, Samples, UserError
from ibllm_robust.attacked import CLEAN, attacked_items
from ibllm_robust.config import AttacksConfig


class AttacksDataset(Dataset):
    """Other data, a share of their training items attacked ones; every other split is as it was.

    An attacked item has the caption, the question and the answer that its data gave it, and in the place of its image, or of its caption, what the attack made
    of it.
    """

    def __init__(self, config: AttacksConfig, context: Context) -> None:
        self.config, self._data = config, config.data.build(context.seed)
        self._attacked = attacked_items(config.path)
        self.image_shape, self.licence = self._data.image_shape, self._data.licence
        c, h, w = self.image_shape
        if self._attacked.images.shape[1:] != (h, w, c):
            raise UserError(
                f"{config.path}: its images are {self._attacked.images.shape[1:]} (h w c): expected those of the data, {(h, w, c)}"
            )

    def sizes(self) -> Mapping[str, int]:
        sizes = self._data.sizes()
        return {**sizes, CLEAN: sizes["train"]}

    def attribution(self) -> str | None:
        return self._data.attribution()

    def notes(self) -> list[str]:
        """What a run tells of its data before it begins (`ibllm.data_notes`)."""
        own: Any = getattr(self._data, "notes", None)
        share, by = f"{100 * self.config.share:g} % of the training items", self._attacked
        said = f"{self.config.path}: {share} are {len(by)} attacked ones, by {by.use} with the strength {by.strength}"
        return [said, *(own() if own is not None else [])]

    def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
        indices, share, attacked = np.atleast_1d(np.asarray(indices, dtype=np.int64)), self.config.share, self._attacked
        found = self._data.samples("train" if split == CLEAN else split, indices)
        # Evenly spread, so that any stretch of items has its share; the n-th place has the n-th item, from the first one again where there are no more.
        number = np.floor(indices * share + 1e-9).astype(np.int64)
        which = np.floor((indices + 1) * share + 1e-9).astype(np.int64) > number
        if split != "train" or not which.any():
            return found
        places = number[which] % len(attacked)
        images = None if found.images is None else np.array(found.images)
        if images is not None:
            images[which] = attacked.images[places]

        def words(own: Sequence[str] | None, others: Sequence[str] | None) -> list[str] | None:
            if own is None or others is None:
                return None
            taken = iter(places.tolist())
            return [others[next(taken)] if other else text for text, other in zip(own, which.tolist(), strict=True)]

        return Samples(
            indices=indices,
            images=images,
            captions=words(found.captions, attacked.captions),
            languages=words(found.languages, attacked.languages),
            questions=words(found.questions, attacked.questions),
            answers=words(found.answers, attacked.answers),
        )

    def corpus(self, split: str = "train", limit: int | None = None) -> Sequence[str]:
        """That of the data: an attacked text shall not teach a tokenizer its slips."""
        return self._data.corpus("train" if split == CLEAN else split, limit)
