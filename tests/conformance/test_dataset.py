"""Every dataset keeps its contract."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from ibllm_testing import DatasetSuite, cover
from PIL import Image

EMOJI = Path(__file__).parents[1] / "emoji" / "archives"
#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
    "shapes/everything": {
        "options": {"size": 48, "placement": "free", "languages": ["en", "zh"], "templates": "varied", "questions": True, "train_size": 50}
    },
    "emoji_styles": {"options": {"path": str(EMOJI), "languages": ["en", "hi"]}, "requires": ("resvg_py",)},
    "openmoji": {"options": {"size": 32, "bases": 40, "toned": 8, "languages": ["en", "zh"]}, "requires": ("emoji",)},
}

globals().update(cover(DatasetSuite, "ibllm", PRESETS, but=("attacks", "files", "webdataset")))


class TestAttacks(DatasetSuite):
    component = "attacks"

    @pytest.fixture(autouse=True)
    def _attacked(self, tmp_path: Path) -> None:
        """Three items as an attack leaves them, among scenes."""
        self.options = {"path": str(tmp_path), "of": {"use": "shapes", "train_size": 50}}
        about = {"use": "noise", "strength": "2/255", "split": "train", "captions": ["a", "b", "c"]}
        about |= {"languages": ["en", "en", "en"], "questions": None, "answers": None}
        (tmp_path / "attacked.json").write_text(json.dumps(about), encoding="utf-8")
        np.save(tmp_path / "images.npy", np.full((3, 32, 32, 3), 7, np.uint8))


class TestFiles(DatasetSuite):
    component = "files"

    @pytest.fixture(autouse=True)
    def _pictures(self, tmp_path: Path) -> None:
        """Twenty with a caption each."""
        self.options = {"path": str(tmp_path), "size": 16}
        for number in range(20):
            Image.fromarray(np.full((20, 30, 3), 10 * number, np.uint8)).save(tmp_path / f"{number}.png")
            (tmp_path / f"{number}.txt").write_text(f"grey number {number}\n", encoding="utf-8")


class TestWebDataset(DatasetSuite):
    component = "webdataset"

    @pytest.fixture(autouse=True)
    def _shards(self, tmp_path: Path) -> None:
        """Three of ten samples each, a split each."""
        self.options = {"path": str(tmp_path), "size": 16, **{split: f"{split}.tar" for split in ("train", "validation", "test")}}
        for split in ("train", "validation", "test"):
            with tarfile.open(tmp_path / f"{split}.tar", "w") as tar:
                for number in range(10):
                    image = io.BytesIO()
                    Image.fromarray(np.full((20, 30, 3), 20 * number, np.uint8)).save(image, "PNG")
                    for ending, data in (("png", image.getvalue()), ("txt", f"grey number {number}".encode())):
                        member = tarfile.TarInfo(f"{number:04}.{ending}")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
