"""Items under attack as a folder that the dataset ``attacks`` reads: training with them hardens the next model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ibllm_core.runs.directory import replacing, write_json, write_text

from .attacking import Attack, Attacked
from .strengths import Strength

if TYPE_CHECKING:
    from ibllm.trained import Trained

#: What the folder is known by; the perturbed images; the recipe whose data they are of.
FILE, IMAGES, RECIPE = "attacked.json", "images.npy", "recipe.toml"


def save_items(folder: Path, opened: Trained, attack: Attack, strength: Strength, split: str, found: Attacked, overwrite: bool) -> None:
    """Writes the folder, in the place of one that was there."""
    folder.mkdir(parents=True, exist_ok=True)
    if found.images is not None:
        with replacing(folder / IMAGES) as partial, partial.open("wb") as file:
            np.save(file, found.images, allow_pickle=False)
    elif (folder / IMAGES).is_file():
        (folder / IMAGES).unlink()
    write_text(folder / RECIPE, opened.recipe.source)
    about = {
        "format": 1,
        "of": attack.of,
        "use": attack.use,
        "against": attack.against,
        "strength": strength.label,
        "split": split,
        "seed": opened.recipe.seed.data,
        "items": len(found.images) if found.images is not None else len(found.texts or ()),
        "texts": found.texts,
    }
    write_json(folder / FILE, about)
