"""Shards made by tests."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

COLOURS = ("red", "green", "blue", "yellow", "black", "white")
Member = tuple[str, bytes]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IBLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def picture(colour: str, ending: str = "png", size: tuple[int, int] = (24, 20)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "JPEG" if ending == "jpg" else ending, **({"quality": 95} if ending == "jpg" else {}))
    return out.getvalue()


def sample(key: str, colour: str, caption: str = "", ending: str = "png") -> list[Member]:
    """An image and its caption, as text and as img2dataset's JSON."""
    text = caption or f"a {colour} card"
    about = {"caption": [text, f"{text} again"], "lang": "en"}
    return [(f"{key}.{ending}", picture(colour, ending)), (f"{key}.txt", text.encode()), (f"{key}.json", json.dumps(about).encode())]


def shard(path: Path, members: Iterable[Member], **how: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **how) as tar:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def shards(folder: Path, count: int = 3, each: int = 4, split: str = "train") -> Path:
    """Shards ``SPLIT-000.tar`` … of samples whose caption says their colour and their number."""
    for number in range(count):
        members = [
            member
            for place in range(each)
            for member in sample(
                f"{place:05}", COLOURS[(number * each + place) % 6], f"{COLOURS[(number * each + place) % 6]} {number * each + place}"
            )
        ]
        shard(folder / f"{split}-{number:03}.tar", members)
    return folder
