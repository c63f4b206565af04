"""A folder of attacked items, as ``ibllm attack --save`` writes it. Torch-free."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from ibllm.plugin import Dataset, DatasetConfig, OptionError, RecordedData, recorded_data

#: What the folder holds: what it is, perturbed images, and the recipe whose data they are of.
FILE, IMAGES, RECIPE = "attacked.json", "images.npy", "recipe.toml"
#: What is expected of an option that names such a folder.
WRITTEN = "a folder that `ibllm attack RUN --split train --save FOLDER` wrote"


@attrs.frozen(eq=False)
class AttackedFolder:
    """What such a folder says.

    Attributes:
        seed: of the attacked run's data; the attacked items are the first `items` of its split train.
        texts: b captions as they were left; None where they are those of the data.
    """

    path: Path
    use: str
    strength: str
    seed: int
    items: int
    texts: Sequence[str] | None
    data: RecordedData

    @property
    def config(self) -> DatasetConfig:
        """The options of the data."""
        return self.data.config

    def build(self, seed: int) -> Dataset:
        """The data with a seed."""
        return self.data.build(seed)

    def images(self) -> npt.NDArray[np.uint8] | None:
        """(b h w c) perturbed images; None where captions were attacked."""
        if not (self.path / IMAGES).is_file():
            return None
        try:
            found = np.load(self.path / IMAGES, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise OptionError("path", str(self.path), f"a folder whose {IMAGES} can be read ({error})") from None
        if found.dtype != np.uint8 or found.ndim != 4 or len(found) != self.items:
            raise OptionError("path", str(self.path), f"a folder whose {IMAGES} holds {self.items} images, uint8 (b h w c)")
        return found

    def contents(self) -> list[tuple[str, str]]:
        """Each attacked item and a hash of all that it holds (`ibllm.data_prints`)."""
        images = self.images()
        rows = [b"" if images is None else images[k].tobytes() for k in range(self.items)]
        texts = self.texts or [""] * self.items
        return [(str(k), hashlib.sha256(row + text.encode()).hexdigest()) for k, (row, text) in enumerate(zip(rows, texts, strict=True))]


def attacked_folder(path: str) -> AttackedFolder:
    """Reads a folder. Raises `OptionError` where it is none, or its items are no training items."""
    file = Path(path) / FILE
    if not file.is_file():
        raise OptionError("path", path, WRITTEN)
    return _read(path, file.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read(path: str, changed: int) -> AttackedFolder:
    try:
        about: dict[str, Any] = json.loads((Path(path) / FILE).read_text(encoding="utf-8"))
        split, texts = str(about["split"]), about["texts"]
        words = str(about["use"]), str(about["strength"]), int(about["seed"]), int(about["items"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionError("path", path, f"a folder whose {FILE} can be read ({type(error).__name__}: {error})") from None
    if split != "train":
        raise OptionError(
            "path",
            path,
            f'attacked items of the split train; these are of "{split}", which a run is measured on: attack with --split train',
        )
    if texts is not None and not (isinstance(texts, list) and len(texts) == words[3]):
        raise OptionError("path", path, f"a folder whose {FILE} has {words[3]} texts")
    return AttackedFolder(Path(path), *words, texts, recorded_data(Path(path) / RECIPE))
