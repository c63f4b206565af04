"""The dataset `files` on what other programs write: Hugging Face `datasets` and phones; trained by processes of its own, with workers.

Needs ``pip install datasets pillow-heif``.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .needs import needs

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "training" / "tiny.toml"
COUNT = 40
RECIPE = """
extends = "{tiny}"
name = "cards"
trackers = {{ tensorboard = false }}
metrics = {{ scene = false, caption_facts = false, round_trip = false, chrf = {{ use = "chrf" }} }}
data = {{ use = "files", path = "{path}", size = 16, validation = 0.2, test = 0.2 }}
compute = {{ threads = 1, workers = 2 }}
[stages]
text.steps = 2
text.validate.every = 2
image.steps = 2
image.validate = {{ every = 2, figure = "chrf" }}
joint.steps = 0
[evaluation]
items = 4
samples = 1
"""


def card(number: int) -> Image.Image:
    return Image.new("RGB", (40, 32), (6 * number, 255 - 6 * number, 0))


def dataset() -> Any:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "caption": datasets.List(datasets.Value("string"))})
    cells = {"image": [card(n) for n in range(COUNT)], "caption": [[f"card {n}", f"a card of number {n}"] for n in range(COUNT)]}
    return datasets.Dataset.from_dict(cells, features=features)


def saved(at: Path) -> Path:
    dataset().save_to_disk(str(at), num_shards=3)
    return at


def divided(at: Path) -> Path:
    dataset().train_test_split(0.25, seed=0).save_to_disk(str(at))
    return at


def parquet(at: Path) -> Path:
    at.mkdir()
    for number, split in enumerate(("train", "validation", "test")):
        dataset().shard(3, number).to_parquet(str(at / f"{split}-00000-of-00001.parquet"))
    return at


def phone(at: Path) -> Path:
    from pillow_heif import register_heif_opener

    register_heif_opener()
    at.mkdir()
    for number in range(COUNT):
        card(number).save(at / f"IMG_{number:04}.HEIC", quality=100)
        (at / f"IMG_{number:04}.txt").write_text(f"card {number}\na card of number {number}\n")
    return at


@pytest.mark.parametrize("make", [saved, divided, parquet, phone])
def test_it_is_trained_by_a_process_from_another_folder(make: Callable[[Path], Path], tmp_path: Path) -> None:
    for package in ("datasets", "pillow_heif"):
        needs(f"the package {package}", importlib.util.find_spec(package) is not None)
    path = make(tmp_path / "data")
    (tmp_path / "cards.toml").write_text(RECIPE.format(tiny=TINY, path=path.name), encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    command = [sys.executable, "-m", "ibllm", "run", str(tmp_path / "cards.toml"), "--run-dir", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=tmp_path / "elsewhere", capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))["test/items"] > 0

    from ibllm_files.config import FilesConfig
    from ibllm_files.dataset import FilesDataset

    found = FilesDataset(FilesConfig(path=str(path), size=16), None)
    seen = set()
    for split, size in found.sizes().items():
        samples = found.samples(split, np.arange(size))
        assert samples.images is not None and samples.captions is not None
        for image, caption in zip(samples.images, samples.captions, strict=True):
            number = int(caption.split()[-1])
            # HEIC and JPEG round colours; a card's neighbour is 6 away.
            assert abs(int(image[8, 8, 0]) - 6 * number) <= 3
            seen.add(caption)
    assert len(seen) == 2 * COUNT
