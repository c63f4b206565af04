"""The dataset `webdataset`: images and captions in tar shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from ibllm.plugin import Dataset, Fit, Samples, StoredImages
from ibllm_stream.config import SPLITS, WebDatasetConfig
from ibllm_stream.index import Index, ShardSource, index_of
from ibllm_stream.samples import local, shards_of
from ibllm_stream.streamed import Stream

Ints = npt.NDArray[np.int64]


class _Sources(Sequence[ShardSource]):
    """Where the images of all splits lie, one split after the other; each is made when it is asked for."""

    def __init__(self, indices: Sequence[Index]) -> None:
        self._indices, self._ends = indices, np.cumsum([index.images for index in indices])

    def __len__(self) -> int:
        return int(self._ends[-1])

    @overload
    def __getitem__(self, number: int) -> ShardSource: ...

    @overload
    def __getitem__(self, number: slice) -> Sequence[ShardSource]: ...

    def __getitem__(self, number: int | slice) -> ShardSource | Sequence[ShardSource]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        which = int(np.searchsorted(self._ends, number, "right"))
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self._indices[which].source(number - (int(self._ends[which - 1]) if which else 0))


class WebDatasetDataset(Dataset):
    """Images and captions in tar shards; an item is one caption of a sample. Nothing depends on the run's seed."""

    def __init__(self, config: WebDatasetConfig, context: Any) -> None:
        self.config, self.image_shape = config, config.image_shape
        self._stream = None if config.indexed else Stream(config)
        if self._stream is not None:
            self.order = self._stream.order
        held = {split: shards_of(config, split) if split != "train" or config.indexed else [] for split in SPLITS}
        self._indices = {split: index_of(local(shards, split), config, split) for split, shards in held.items()}
        starts = np.cumsum([0, *(index.images for index in self._indices.values())]).tolist()
        #: Split → the number, among the images of all splits, of each item's.
        self._numbers = {split: self._indices[split].samples + start for split, start in zip(SPLITS, starts, strict=False)}
        self._images = StoredImages(
            _Sources(list(self._indices.values())),
            (config.size, config.size),
            Fit(config.fit, config.background),
            named="|".join(index.key for index in self._indices.values()),
            cache=config.cache,
            cache_limit=config.cache_limit,
            most=config.most_pixels,
            skip=config.broken == "skip",
            max_broken=config.max_broken,
        )

    def sizes(self) -> Mapping[str, int]:
        counts = {split: len(index) for split, index in self._indices.items()}
        return counts if self._stream is None else counts | {"train": self.config.items}

    def notes(self) -> list[str]:
        """What a run tells of its data before it begins (`ibllm.data_notes`)."""
        counts = {split: len(index.left_out) for split, index in self._indices.items() if index.left_out}
        lacking = [f"data.{split}: samples or members left out: {count:,}" for split, count in counts.items()]
        return [*lacking, *(self._stream.notes() if self._stream else ()), *self._images.told]

    def left_out(self) -> Sequence[str]:
        """What is broken and left out so far, a line each; a run lists it in a file."""
        met = [*self._images.incidents.of("broken"), *(self._stream.incidents.of("broken") if self._stream else ())]
        return [*(line for index in self._indices.values() for line in index.left_out), *met]

    def incidents(self) -> Sequence[str]:
        """What was met so far while items were made, a sentence each."""
        if self._stream is None:
            return self._images.met()
        broken, more = self._stream.incidents.of("broken"), self._stream.incidents.of("workers")
        said = (
            [f"data.train: samples, images or members left out: {len(broken):,} ({broken[0]}{', …' if broken[1:] else ''})"]
            if broken
            else []
        )
        return [*self._images.met(), *said, *more]

    def remedy(self, split: str) -> str:
        """What would give items to a split that has none."""
        return f'name its shards, {split} = "{{000..009}}.tar", which no other split has'

    def samples(self, split: str, indices: Ints) -> Samples:
        if split not in self._indices:
            raise KeyError(f"webdataset has no split {split!r}: expected one of {', '.join(self._indices)}")
        indices, numbers = np.atleast_1d(np.asarray(indices, dtype=np.int64)), self._numbers[split]
        if split == "train" and self._stream is not None:
            return self._stream.samples(indices)
        chosen, images = self._images.take_items(numbers, indices)
        paired, texts = self.config.holds == "pairs", list(self._indices[split].texts(chosen))
        return Samples(
            indices=indices,
            images=images,
            captions=[caption for caption, _ in texts] if paired else None,
            languages=[language for _, language in texts] if paired else None,
            groups=numbers[chosen],
        )

    def corpus(self, split: str = "train", limit: int | None = None) -> Sequence[str]:
        """All captions of the split, or of its first `limit` items; of a stream those of its first samples. No image is opened."""
        if split == "train" and self._stream is not None:
            return self._stream.corpus(limit)
        index = self._indices[split]
        count = len(index) if limit is None else min(limit, len(index))
        return [caption for caption, _ in index.texts(np.arange(count))] if self.config.holds == "pairs" else []
