"""The dataset `files`: the user's own images and captions. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ibllm.plugin import Dataset, Facts, Samples
from ibllm_files.config import FilesConfig
from ibllm_files.loading import load
from ibllm_files.records import HELD, Record


class FilesDataset(Dataset):
    """The user's own images and captions, or images or captions alone; an item is one caption of an image.

    The splits train, validation and test are those of the column ``split``, or drawn by the content of the image's file. Nothing depends on the
    run's seed.
    """

    def __init__(self, config: FilesConfig, context: Any) -> None:
        self.config = config
        self.image_shape = config.image_shape
        self._loaded = load(config)

    def sizes(self) -> Mapping[str, int]:
        return {split: len(items) for split, items in self._loaded.items.items()}

    def attribution(self) -> str | None:
        """How many captions were written by a machine, and by which; None where no row says so."""
        rows = [record for items in self._loaded.items.values() for record, _ in items]
        by = list(dict.fromkeys(row.written_by for row in rows if row.written_by))
        count = sum(bool(row.written_by) for row in rows)
        more = f" and {len(by) - 3} more" if len(by) > 3 else ""
        said = f"{self.config.path}: {count} of {len(rows)} captions were written by a machine ({', '.join(by[:3])}{more})"
        return f"{said}; what is trained on them learns its mistakes" if by else None

    def notes(self) -> list[str]:
        """What a run tells of its data before it begins (`ibllm.data_notes`)."""
        machine = self.attribution()
        return [*([machine] if machine else []), *self._loaded.notes]

    def facts(self) -> Facts:
        """What is known of the images as they lie in their files: sizes and kinds (`ibllm data`)."""
        return self._loaded.facts

    def left_out(self) -> Sequence[str]:
        """The records that are broken and left out so far, a line each; a run lists them in a file."""
        return [*self._loaded.left_out, *self._loaded.images.incidents.of("broken")]

    def incidents(self) -> Sequence[str]:
        """What was met so far while items were made, a sentence each."""
        return self._loaded.images.met()

    def remedy(self, split: str) -> str:
        """What would give items to a split that has none."""
        return self._loaded.remedies.get(split, "")

    def _items(self, split: str) -> Sequence[tuple[Record, int]]:
        if split not in self._loaded.items:
            raise KeyError(f"files has no split {split!r}: expected one of {', '.join(self._loaded.items)}")
        return self._loaded.items[split]

    def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
        indices = np.atleast_1d(np.asarray(indices, dtype=np.int64))
        found, held = self._items(split), HELD[self.config.holds]
        numbers = self._loaded.numbers[split]
        chosen, images = self._loaded.images.take_items(numbers, indices) if "image" in held else (indices, None)
        rows = [found[i][0] for i in chosen.tolist()]
        asked = bool(rows) and bool(rows[0].question)
        return Samples(
            indices=indices,
            images=images,
            captions=[row.caption for row in rows] if "caption" in held else None,
            languages=[row.language or self.config.language for row in rows] if "caption" in held else None,
            questions=[row.question for row in rows] if asked else None,
            answers=[row.answer for row in rows] if asked else None,
            groups=numbers[chosen] if "image" in held else None,
        )

    def corpus(self, split: str = "train", limit: int | None = None) -> Sequence[str]:
        """All captions, questions and answers of the split, or of its first `limit` items; no image is opened."""
        rows = [record for record, _ in self._items(split)[:limit]]
        texts = [[row.caption for row in rows], [row.question for row in rows], [row.answer for row in rows]]
        return [text for some in texts for text in some if text]
