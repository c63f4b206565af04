"""Where captions and images come from. Torch-free: a dataset speaks numpy and strings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

#: Items whose texts are asked for at once.
_AT_ONCE = 4096


@attrs.frozen(eq=False)
class Samples:
    """Some items of one split.

    Attributes:
        indices: (b) each item's number in its split.
        images: (b h w c) uint8, or None where the data has no images.
        captions: b strings, or None where the data has no text.
        languages: b language codes (ISO 639), the language of each caption.
        questions, answers: b strings each, one question–answer pair an item, or None.
        groups: (b) int64, the number of what each item is of: items of one number are several captions of one image. None: each is of its own.
        truth: what the dataset itself knows about the items (its own metrics read it); opaque to the core.
    """

    indices: npt.NDArray[np.int64]
    images: npt.NDArray[np.uint8] | None = None
    captions: Sequence[str] | None = None
    languages: Sequence[str] | None = None
    questions: Sequence[str] | None = None
    answers: Sequence[str] | None = None
    groups: npt.NDArray[np.int64] | None = None
    truth: Any = None

    def __len__(self) -> int:
        return len(self.indices)


class Dataset(ABC):
    """A source of paired (or unpaired) captions and images with named splits.

    Every item is a pure function of ``(seed, split, index)``; `samples` may be called from any process in any order, a
    forked one too (``compute.workers``): a file is opened where it is read. Data that can be read in one order alone say it themselves: ``order(size,
    key)`` makes, in the place of `ibllm_core.training.feeding.Order`, positions in the endless sequence → what `samples` of ``train`` is asked for.
    """

    #: (c, h, w) of every image.
    image_shape: tuple[int, int, int]
    #: The licence that the data are under, an SPDX identifier in lower case; empty where it is not known. Model cards name it.
    licence: str = ""

    @abstractmethod
    def sizes(self) -> Mapping[str, int]:
        """Split name → number of items. ``train`` must be among them."""

    @abstractmethod
    def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
        """The items `indices` of `split`. Raises `KeyError` for an unknown split."""

    def corpus(self, split: str = "train", limit: int | None = None) -> Sequence[str]:
        """Texts to train a tokenizer on: captions, questions and answers of the split's first `limit` items, or of all.

        A dataset that draws its items without end says here how many of them have every word.
        """
        count = self.sizes()[split] if limit is None else min(limit, self.sizes()[split])
        texts: list[str] = []
        for start in range(0, count, _AT_ONCE):
            found = self.samples(split, np.arange(start, min(start + _AT_ONCE, count), dtype=np.int64))
            texts += [text for some in (found.captions, found.questions, found.answers) if some is not None for text in some]
        return texts

    def attribution(self) -> str | None:
        """A credit that the data's licence asks for; it goes into reports and model folders."""
        return None
