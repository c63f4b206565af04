"""The training split's first items, where figures depend on them, and what a record says of them. Torch-free."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ibllm.plugin import Dataset, Samples

#: Items that are read at once.
_CHUNK = 512


def count(dataset: Dataset, limit: int) -> int:
    """How many items `read` gives."""
    return min(limit, dataset.sizes()["train"])


def read(dataset: Dataset, limit: int) -> Iterator[Samples]:
    """The first `limit` items of the training split, some at a time."""
    items = count(dataset, limit)
    for start in range(0, items, _CHUNK):
        yield dataset.samples("train", np.arange(start, min(start + _CHUNK, items), dtype=np.int64))


def captions_hash(captions: Sequence[str]) -> str:
    """The same of captions as `Evaluation.hashes`."""
    return hashlib.sha256("\n".join(captions).encode()).hexdigest()[:16]


def images_hash(images: Iterable[npt.NDArray[np.uint8]]) -> str:
    """The same of images, each (h w c), as `Evaluation.hashes`."""
    found = hashlib.sha256()
    for image in images:
        found.update(image.tobytes())
    return found.hexdigest()[:16]
