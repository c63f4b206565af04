"""The dataset `files`: the user's own images and captions. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from ibllm.plugin import Dataset, Samples, UserError, derive_key
from ibllm_files.config import FilesConfig
from ibllm_files.formats import read_records
from ibllm_files.images import Images
from ibllm_files.records import Problems, Record
from ibllm_files.sources import FileSource, Source

#: What a row has, by the option `holds`.
COLUMNS_OF: Mapping[str, tuple[str, ...]] = {"pairs": ("image", "caption"), "images": ("image",), "captions": ("caption",)}


@attrs.frozen(eq=False)
class Folder:
    """A config's files once read: its images, and split → (record, its image's number; −1 where there are none)."""

    images: Images
    items: Mapping[str, Sequence[tuple[Record, int]]]


@lru_cache(maxsize=2)
def load_folder(config: FilesConfig, root: Path) -> Folder:
    """Reads, checks and divides everything; once for a config and process. Raises `UserError` that names all problems."""
    problems = Problems(root)
    rows = read_records(root, problems, COLUMNS_OF[config.holds])
    first: dict[Source, Record] = {}
    for row in rows:
        if row.image is not None:
            first.setdefault(row.image, row)
    images = Images(tuple(first), config)
    numbers, firsts = {source: number for number, source in enumerate(first)}, tuple(first.values())
    for number, why in images.broken.items():
        problems.add(firsts[number].place, why)
    _check_rows(rows, problems, config.questions)
    problems.raise_any()
    base = root if root.is_dir() else root.parent
    items: dict[str, list[tuple[Record, int]]] = {split: [] for split in config.splits()}
    for row in rows:
        split = row.split or random_split(row.image.path if isinstance(row.image, FileSource) else row.caption, base, config)
        items[split].append((row, -1 if row.image is None else numbers[row.image]))
    if not items["train"]:
        raise UserError(f"{root}: no row is left for the split train")
    return Folder(images, items)


def _check_rows(rows: Sequence[Record], problems: Problems, asked: bool) -> None:
    """What is wrong between rows: columns filled in some rows only, an image in two splits, no questions where the recipe promises them."""
    for column in ("split", "question"):
        bare = [row for row in rows if not getattr(row, column)]
        if 0 < len(bare) < len(rows):
            problems.add(bare[0].place, f"{column} is empty, but other rows give it: expected all or none")
        elif bare and asked and column == "question":
            problems.add(bare[0].place, "there is no question: expected one in every row with questions = true")
    seen: dict[Source, Record] = {}
    for row in (row for row in rows if row.image is not None):
        assert row.image is not None
        other = seen.setdefault(row.image, row)
        if other.split != row.split and row.split and other.split:
            problems.add(row.place, f"the image {row.image.name} is in the split {row.split} here and in {other.split} at {other.place}")


def random_split(item: Path | str, base: Path, config: FilesConfig) -> str:
    """An image's split from its path relative to the table or folder, so that all its captions share it and new files move no other.

    Captions without images are divided by themselves, so that one that comes twice is not in two splits.
    """
    if isinstance(item, Path):
        item = (item.relative_to(base) if item.is_relative_to(base) else item).as_posix()
    unit = derive_key("files", config.split_seed, item) / 2.0**64
    return "test" if unit < config.test else "validation" if unit < config.test + config.validation else "train"


class FilesDataset(Dataset):
    """The user's own images and captions, or images or captions alone; an item is one row.

    All images are decoded once a process and kept (size² · 3 bytes each). The splits train, validation and test are those of the column
    ``split``, or drawn by image: a hash of its path. Nothing depends on the run's seed.
    """

    def __init__(self, config: FilesConfig, context: Any) -> None:
        self.config = config
        self.image_shape = config.image_shape
        self._folder = load_folder(config, Path(config.path).expanduser())

    def sizes(self) -> Mapping[str, int]:
        return {split: len(items) for split, items in self._folder.items.items()}

    def attribution(self) -> str | None:
        """How many captions were written by a machine, and by which; None where no row says so."""
        return self.notes()[0] if self.notes() else None

    def notes(self) -> list[str]:
        """What a run tells of its data before it begins (`ibllm.data_notes`)."""
        rows = [row for items in self._folder.items.values() for row, _ in items]
        by = list(dict.fromkeys(row.written_by for row in rows if row.written_by))
        count = sum(bool(row.written_by) for row in rows)
        more = f" and {len(by) - 3} more" if len(by) > 3 else ""
        said = f"{self.config.path}: {count} of {len(rows)} captions were written by a machine ({', '.join(by[:3])}{more})"
        return [f"{said}; what is trained on them learns its mistakes"] if by else []

    def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
        found = self._folder
        if split not in found.items:
            raise KeyError(f"files has no split {split!r}: expected one of {', '.join(found.items)}")
        indices = np.atleast_1d(np.asarray(indices, dtype=np.int64))
        items = [found.items[split][i] for i in indices.tolist()]
        rows = [row for row, _ in items]
        asked, held = bool(rows) and bool(rows[0].question), COLUMNS_OF[self.config.holds]
        return Samples(
            indices=indices,
            images=found.images.take(np.array([number for _, number in items], dtype=np.int64)) if "image" in held else None,
            captions=[row.caption for row in rows] if "caption" in held else None,
            languages=[row.language or self.config.language for row in rows] if "caption" in held else None,
            questions=[row.question for row in rows] if asked else None,
            answers=[row.answer for row in rows] if asked else None,
            groups=np.array([number for _, number in items], dtype=np.int64) if "image" in held else None,
        )
