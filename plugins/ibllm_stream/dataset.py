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
        self._indices = {split: index_of(local(shards_of(config, split), split), config, split) for split in SPLITS}
        starts = np.cumsum([0, *(index.images for index in self._indices.values())]).tolist()
        #: Split → the number of each item's image among all.
        self._numbers = dict(
            zip(SPLITS, ((lambda i=i, s=s: i.samples + s)() for i, s in zip(self._indices.values(), starts, strict=False)), strict=True)
        )
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
