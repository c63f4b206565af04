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

from ibllm.plugin import OptionError

#: What the folder holds: what it is and the texts of its items, and their images.
FILE, IMAGES = "attacked.json", "images.npy"
#: The split of the dataset `attacks` that has the training items as they were before any attack.
CLEAN = "clean"
#: What is expected of an option that names such a folder.
WRITTEN = "a folder that `ibllm attack RUN --split train --save FOLDER` wrote"
_TEXTS = ("captions", "languages", "questions", "answers")


@attrs.frozen(eq=False, kw_only=True)
class AttackedItems:
    """What such a folder holds.

    Attributes:
        use, strength, split: what attacked which items.
        images: (b h w c) as the attack left them.
        captions, languages, questions, answers: b texts each, captions as the attack left them; None where the data have none.
    """

    use: str
    strength: str
    split: str
    images: npt.NDArray[np.uint8]
    captions: Sequence[str] | None
    languages: Sequence[str] | None
    questions: Sequence[str] | None
    answers: Sequence[str] | None

    def __len__(self) -> int:
        return len(self.images)

    def contents(self) -> list[tuple[str, str]]:
        """Each item and a hash of all that it holds (`ibllm.data_prints`)."""
        texts = [getattr(self, name) or [""] * len(self) for name in _TEXTS]
        rows = zip(self.images, *texts, strict=True)
        return [(str(k), hashlib.sha256(image.tobytes() + "\n".join(said).encode()).hexdigest()) for k, (image, *said) in enumerate(rows)]


def attacked_items(path: str) -> AttackedItems:
    """Reads a folder. Raises `OptionError` where it is none, or its items are no training items."""
    file = Path(path) / FILE
    if not path or not file.is_file():
        raise OptionError("path", path, WRITTEN)
    return _read(path, file.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read(path: str, changed: int) -> AttackedItems:
    try:
        about: dict[str, Any] = json.loads((Path(path) / FILE).read_text(encoding="utf-8"))
        images = np.load(Path(path) / IMAGES, mmap_mode="r", allow_pickle=False)
        words = {name: str(about[name]) for name in ("use", "strength", "split")}
        texts = {name: about[name] for name in _TEXTS}
        if images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError(f"{IMAGES} is {images.dtype} {images.shape}, not uint8 (b h w c)")
        if wrong := [name for name, some in texts.items() if some is not None and len(some) != len(images)]:
            raise ValueError(f"{len(images)} images, {len(texts[wrong[0]])} {wrong[0]}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionError("path", path, f"a folder whose {FILE} and {IMAGES} can be read ({type(error).__name__}: {error})") from None
    if words["split"] not in ("train", CLEAN):
        raise OptionError(
            "path",
            path,
            f'attacked items of the split train; these are of "{words["split"]}", which a run is measured on: attack with --split train',
        )
    return AttackedItems(images=images, **words, **texts)
