"""Every dataset keeps its contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ibllm_testing import DatasetSuite, cover
from PIL import Image

#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
    "shapes/everything": {
        "options": {"size": 48, "placement": "free", "languages": ["en", "zh"], "templates": "varied", "questions": True, "train_size": 50}
    },
    "openmoji": {"options": {"size": 32, "bases": 40, "toned": 8, "languages": ["en", "zh"]}, "requires": ("emoji",)},
}

globals().update(cover(DatasetSuite, "ibllm", PRESETS, but=("files",)))


class TestFiles(DatasetSuite):
    component = "files"

    @pytest.fixture(autouse=True)
    def _pictures(self, tmp_path: Path) -> None:
        """Twenty with a caption each."""
        self.options = {"path": str(tmp_path), "size": 16}
        for number in range(20):
            Image.fromarray(np.full((20, 30, 3), 10 * number, np.uint8)).save(tmp_path / f"{number}.png")
            (tmp_path / f"{number}.txt").write_text(f"grey number {number}\n", encoding="utf-8")
