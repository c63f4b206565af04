"""Every dataset keeps its contract."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from ibllm_core.testing import DatasetSuite, cover


@functools.cache
def folder() -> Path:
    """Twenty pictures with a caption each."""
    made = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    for number in range(20):
        Image.fromarray(np.full((20, 30, 3), 10 * number, np.uint8)).save(made / f"{number}.png")
        (made / f"{number}.txt").write_text(f"grey number {number}\n", encoding="utf-8")
    return made


#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
    "shapes/everything": {
        "options": {"size": 48, "placement": "free", "languages": ["en", "zh"], "templates": "varied", "questions": True, "train_size": 50}
    },
    "openmoji": {"options": {"size": 32, "bases": 40, "toned": 8, "languages": ["en", "zh"]}, "requires": ("emoji",)},
    "files": {"options": property(lambda suite: {"path": str(folder()), "size": 16})},
}

globals().update(cover(DatasetSuite, "ibllm", PRESETS))
