"""Drawings as pixels: SVG through resvg, kept on disk. Torch-free.

Shapes: s styles, n concepts, h w c pixels.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ibllm.plugin import Notice, UserError, cache_folder
from ibllm_emoji.styles.archives import PACKAGES, Archive
from ibllm_emoji.styles.concepts import Concept, drawings

U8 = npt.NDArray[np.uint8]
#: Part of a cache's key: what is kept was made by these rules.
_RULES = 1
#: Two drawings are the same to the eye below this root mean square difference, as a fraction of the full range (see the dataset openmoji).
SAME = 0.01
#: Rows and columns of the blocks by which drawings are compared first.
_BLOCKS = 8


def render(svg: str, size: int) -> U8:
    """A drawing on white → (size size 3). Raises `UserError` where resvg is missing, `ValueError` where the SVG is none."""
    try:
        import resvg_py
    except ImportError:
        raise UserError('the dataset emoji_styles needs the package resvg-py: pip install "ibllm[emoji]"') from None
    from PIL import Image

    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, background="#ffffff", skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(png))) as image:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)


def all_drawings(archives: Mapping[str, Archive], concepts: Sequence[Concept], size: int) -> U8:
    """(s n h w c), read-only: from the cache where they lie there, which is filled otherwise; one package's drawings are in memory at a time."""
    shape = (len(PACKAGES), len(concepts), size, size, 3)
    words = [_RULES, size, *(archives[package].content for package in PACKAGES.values()), *(concept.code for concept in concepts)]
    file = cache_folder() / "emoji_styles" / f"{hashlib.sha256(' '.join(map(str, words)).encode()).hexdigest()[:32]}.npy"
    if (kept := _kept(file, shape)) is not None:
        return kept

    def fill(images: U8) -> None:
        for number, (style, package) in enumerate(PACKAGES.items()):
            for place, svg in enumerate(drawings(archives[package], [concept.icons[style] for concept in concepts])):
                images[number, place] = render(svg, size)

    try:
        _write(file, shape, fill)
    except OSError as error:
        why = f"drawings cannot be kept in {file.parent} ({error.strerror or error}), so every start renders them; IBLLM_CACHE names another place"
        warnings.warn(Notice(why), stacklevel=2)
        images = np.empty(shape, dtype=np.uint8)
        fill(images)
        images.setflags(write=False)
        return images
    kept = _kept(file, shape)
    assert kept is not None, f"{file} was written just now"
    return kept


def _kept(file: Path, shape: tuple[int, ...]) -> U8 | None:
    """What is kept, as memory that the system may drop; None where there is nothing, or something else."""
    try:
        images = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _write(file: Path, shape: tuple[int, ...], fill: Callable[[U8], None]) -> None:
    """Writes the file beside its place and moves it there, so that a reader finds all of it or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=".npy")
    os.close(handle)
    partial = Path(name)
    try:
        images = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        fill(images)
        images.flush()
        del images
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def looks(images: Iterable[U8]) -> npt.NDArray[np.int64]:
    """For each style (n h w c) → (s n) numbers, equal where two drawings of a style are the same to the eye: the place of the first that looks so."""
    found = []
    for some in images:
        flat = some.reshape(len(some), -1)
        first = np.arange(len(some))
        # The mean over blocks differs by no more than the pixels do, so what is far apart there needs no second look.
        edge = some.shape[1] // _BLOCKS
        small = (
            some[:, : edge * _BLOCKS, : edge * _BLOCKS].reshape(len(some), _BLOCKS, edge, _BLOCKS, edge, 3).mean((2, 4), dtype=np.float32)
        )
        small = small.reshape(len(some), -1) * edge
        small -= small.mean(0)
        squares = (small * small).sum(1)
        limit = (SAME * 255) ** 2 * flat.shape[1]
        near = squares[:, None] + squares[None] - 2 * small @ small.T <= 1.01 * limit + 1
        for i, j in zip(*np.nonzero(np.tril(near, -1)), strict=True):
            if first[i] == i and ((flat[i].astype(np.float32) - flat[j]) ** 2).sum() <= limit:
                first[i] = first[j]
        found.append(first)
    return np.stack(found)
