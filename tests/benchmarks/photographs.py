"""JPEGs of 640×480 as photographs are, of shapes, soft colours and noise, and the pipelines that others decode them with."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

SIZE = (640, 480)


def photograph(number: int, noise: float = 10.0, quality: int = 90) -> bytes:
    """One of them; at the noise and quality that are given by default it has as many bytes as those of COCO have on average, about 150 kB."""
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize(SIZE, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y, w, h = (int(rng.integers(*span)) for span in ((-50, 600), (-50, 440), (20, 250), (20, 200)))
        colour = tuple(int(v) for v in rng.integers(0, 255, 3))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)([x, y, x + w, y + h], fill=colour)
    if noise:
        values = np.asarray(image).astype(np.float32) + rng.normal(0, noise, (*SIZE[::-1], 3)).astype(np.float32)
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def table(folder: Path, distinct: Sequence[bytes], count: int) -> Path:
    """A table of `count` files in folders of a thousand; each is of its own content, by some bytes after its end."""
    rows = ["image,caption"]
    for number in range(count):
        name = f"{number // 1000:03}/{number:06}.jpg"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(distinct[number % len(distinct)] + number.to_bytes(8, "little"))
        rows.append(f"{name},picture {number % 997} of a series")
    (folder / "captions.csv").write_text("\n".join(rows) + "\n")
    return folder / "captions.csv"


def shards(folder: Path, distinct: Sequence[bytes], count: int) -> list[str]:
    """Them in tar files of a hundred samples."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, count, 100):
        with tarfile.open(folder / f"{start // 100:03}.tar", "w") as tar:
            for number in range(start, min(count, start + 100)):
                for ending, data in (("jpg", distinct[number % len(distinct)]), ("txt", f"picture {number}".encode())):
                    member = tarfile.TarInfo(f"{number:06}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return sorted(str(path) for path in folder.glob("*.tar"))


def as_torchvision_does(image: Image.Image, size: int) -> Tensor:
    """Resize(size), CenterCrop(size) and ToTensor of an RGB image, by the same calls of Pillow that torchvision makes."""
    w, h = image.size
    short = min(w, h)
    image = image.resize((int(size * w / short), int(size * h / short)), Image.Resampling.BILINEAR)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    image = image.crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(image, np.uint8, copy=True)).permute(2, 0, 1).contiguous().div(255)


def image_folder(paths: Sequence[Path], size: int, batch: int) -> Iterator[Tensor]:
    """Batches as torchvision's ImageFolder with its default loader makes them."""
    for start in range(0, len(paths), batch):
        made = []
        for path in paths[start : start + batch]:
            with path.open("rb") as file:
                made.append(as_torchvision_does(Image.open(file).convert("RGB"), size))
        yield torch.stack(made)


def by_webdataset(urls: Sequence[str], size: int, batch: int) -> Iterator[Any]:
    """Batches as the package webdataset makes them, shuffled as its documentation does it."""
    import webdataset

    pipeline = webdataset.WebDataset(list(urls), shardshuffle=len(urls), seed=0).shuffle(200).decode("pil").to_tuple("jpg", "txt")
    yield from pipeline.map_tuple(lambda image: as_torchvision_does(image, size), str).batched(batch)
