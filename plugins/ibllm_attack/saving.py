"""Items under attack as a folder that the dataset ``attacks`` reads: training with them hardens the next model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ibllm_core.interfaces.dataset import Samples
from ibllm_core.runs.directory import replacing, write_json

from .attacking import Attack, Attacked
from .strengths import Strength

if TYPE_CHECKING:
    from ibllm.trained import Trained

#: What the folder is known by, and the images.
FILE, IMAGES = "attacked.json", "images.npy"


def save_items(
    folder: Path, opened: Trained, attack: Attack, use: str, strength: Strength, split: str, samples: Samples, found: Attacked
) -> None:
    """Writes the folder, in the place of one that was there: everything of the items that a training needs."""
    folder.mkdir(parents=True, exist_ok=True)
    images = found.images if found.images is not None else np.asarray(samples.images)
    with replacing(folder / IMAGES) as partial, partial.open("wb") as file:
        np.save(file, images, allow_pickle=False)
    texts = {name: getattr(samples, name) for name in ("captions", "languages", "questions", "answers")}
    texts = {name: None if some is None else list(some) for name, some in texts.items()}
    if found.texts is not None:
        texts["captions"] = found.texts
    about = {"of": attack.of, "use": use, "against": attack.against, "strength": strength.label, "split": split, "run": opened.recipe.name}
    write_json(folder / FILE, {"format": 1, **about, **texts})
