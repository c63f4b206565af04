"""Pictures in a folder, found by text: where each lies in the model's space is kept on disk. Torch-free. Shapes: n pictures, k of the space."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from ibllm_core.errors import Notice, UserError
from ibllm_core.runs.directory import replacing

from .hashes import cache_folder
from .pictures import in_folder

__all__ = ["file_hash", "indexed", "ranked"]

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
#: Pictures that are read at once.
CHUNK = 64
#: Unreadable files that are named.
SHOWN = 3


@attrs.frozen
class _Known:
    """What is kept of a file: when it was that size and that old, it had this content, which lies there."""

    size: int
    mtime: int
    content: str
    point: Floats


def file_hash(path: Path) -> str:
    """A hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def indexed(folder: Path, key: str, read: Callable[[Path], Pixels], points: Callable[[Pixels], Floats]) -> tuple[list[Path], Floats]:
    """The pictures of a folder, at any depth, and where each lies (n k).

    Files that are as they were when the index was written are not read again: those of equal size and time, or of equal content.

    Args:
        key: of the model; another one has another index.
        read: a file's picture (1 h w c). Raises `UserError` where it cannot be read.
        points: where pictures (n h w c) lie (n k).

    Raises:
        UserError: the folder has no pictures, or none that can be read.
    """
    root = folder.resolve()
    name = hashlib.sha256(os.fsencode(f"{key} {root}")).hexdigest()[:32]
    file = cache_folder() / "search" / f"{name}.npz"
    paths, before, unreadable = in_folder(folder), _read(file), list[str]()
    by_content = {known.content: known for known in before.values()}
    now, unknown = dict[Path, _Known](), list[tuple[Path, int, int, str]]()
    for path in paths:
        stat, name = path.stat(), str(path.relative_to(folder))
        known = before.get(name)
        if known is None or (known.size, known.mtime) != (stat.st_size, stat.st_mtime_ns):
            content = file_hash(path)
            known = by_content.get(content)
            if known is None:
                unknown.append((path, stat.st_size, stat.st_mtime_ns, content))
                continue
            known = attrs.evolve(known, size=stat.st_size, mtime=stat.st_mtime_ns)
        now[path] = known
    for start in range(0, len(unknown), CHUNK):
        part = unknown[start : start + CHUNK]
        pictures = dict[Path, Pixels]()
        for path, *_ in part:
            try:
                pictures[path] = read(path)
            except UserError as error:
                unreadable.append(str(error))
        found = dict(zip(pictures, points(np.concatenate(list(pictures.values()))), strict=True)) if pictures else {}
        now |= {path: _Known(size, mtime, content, found[path]) for path, size, mtime, content in part if path in found}
    if unreadable:
        more = f", and {len(unreadable) - SHOWN} more" if len(unreadable) > SHOWN else ""
        warnings.warn(Notice(f"{len(unreadable)} of {len(paths)} left out: {'; '.join(unreadable[:SHOWN])}{more}"), stacklevel=3)
    readable = [path for path in paths if path in now]
    if not readable:
        raise UserError(f"none of the {len(paths)} images in {folder} can be read: {unreadable[0]}")
    kept = {str(path.relative_to(folder)): now[path] for path in readable}
    if unknown or set(kept) != set(before) or any(kept[name].mtime != before[name].mtime for name in kept):
        _write(file, kept)
    return readable, np.stack([now[path].point for path in readable])


def _read(file: Path) -> dict[str, _Known]:
    """What is kept; nothing where it is damaged, since it can be made again."""
    try:
        with np.load(file, allow_pickle=False) as kept:
            rows, points = json.loads(str(kept["rows"])), kept["points"]
        return {row[0]: _Known(row[1], row[2], row[3], point) for row, point in zip(rows, points, strict=True)}
    except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError):
        return {}
    except Exception as error:  # numpy reads zip files, whose module has errors of its own
        if type(error).__module__ == "zipfile":
            return {}
        raise


def _write(file: Path, kept: dict[str, _Known]) -> None:
    rows = [[name, known.size, known.mtime, known.content] for name, known in kept.items()]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as partial, partial.open("wb") as out:
            np.savez(out, rows=np.array(json.dumps(rows)), points=np.stack([known.point for known in kept.values()]))
    except OSError as error:
        why = f"the index cannot be kept in {file.parent} ({error.strerror or error}), so every search reads all images; IBLLM_CACHE names another place"
        warnings.warn(Notice(why), stacklevel=4)


def ranked(texts: Floats, images: Floats, k: int) -> list[list[tuple[int, float]]]:
    """Unit vectors of texts (b k) and images (n k) → for each text the (number, cosine) of the nearest images, the nearest first."""
    cosines = texts @ images.T
    order: Any = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return [[(int(number), float(row[number])) for number in places] for row, places in zip(cosines, order, strict=True)]
