"""Decoded images on disk, shared by all processes and runs that ask for the same. Torch-free."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import attrs
import numpy as np
import numpy.typing as npt
from filelock import FileLock

from ibllm_core.errors import UserError, system_error
from ibllm_core.runs.directory import replacing

from ..hashes import cache_folder

Pixels = npt.NDArray[np.uint8]
#: Bytes before the first slot, and those before the pixels of each: their checksum.
HEADER, SUM = 4096, 4
#: Bytes of the disk that are never taken.
SPARE = 1 << 30
GIGA = 10**9


def images_folder() -> Path:
    """Where decoded images are kept, a file for each content and options."""
    return cache_folder() / "images"


class PixelCache:
    """A file of uint8 with a slot for each image, filled by whoever decodes it first, whichever process that is.

    A slot is a checksum and the pixels. It is read back only where both agree, so one that is empty, half-written or damaged is no image, and who
    finds it so decodes again; two that fill a slot at once write the same bytes. So writing asks for no lock.

    The file is mapped a slot at a time: the system keeps its pages for all processes, and what one has read does not stay in its own memory.
    It is written to through the file, not through a mapping, where a full disk would end the process.

    Args:
        path: of a file that `reserve` made.
        slots: images in it.
        weight: bytes of an image.
    """

    def __init__(self, path: Path, slots: int, weight: int) -> None:
        self.path, self.slots, self._weight = path, slots, weight
        self._lock, self._owner = threading.Lock(), 0
        self._file: BinaryIO | None = None

    def __getstate__(self) -> tuple[Path, int, int]:
        return self.path, self.slots, self._weight

    def __setstate__(self, state: tuple[Path, int, int]) -> None:
        PixelCache.__init__(self, *state)

    def get(self, slot: int, out: Pixels) -> bool:
        """Whether the slot has an image, which is then put into `out`."""
        start = HEADER + slot * (SUM + self._weight)
        first = start // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        length = start - first + SUM + self._weight
        try:
            with mmap.mmap(self._opened().fileno(), length, access=mmap.ACCESS_READ, offset=first) as mapped:
                found = memoryview(mapped)[start - first :]
                try:
                    stored = int.from_bytes(found[:SUM], "little")
                    if not stored or stored != _sum(found[SUM:]):
                        return False
                    out[...] = np.frombuffer(found[SUM:], np.uint8).reshape(out.shape)
                    return True
                finally:
                    found.release()
        except (OSError, ValueError):  # gone, cut off, or on a file system that maps nothing
            return False

    def put(self, slot: int, pixels: Pixels) -> None:
        """Fills a slot. Raises `OSError` where the disk is full, or the file is gone."""
        data = np.ascontiguousarray(pixels).tobytes()
        with self._lock:
            file = self._opened()
            file.seek(HEADER + slot * (SUM + self._weight))
            file.write(_sum(data).to_bytes(SUM, "little") + data)

    def _opened(self) -> BinaryIO:
        """The file, opened by this process itself: a forked one would share the place that it is read at."""
        if self._file is None or self._owner != os.getpid():
            self._file, self._owner = self.path.open("r+b", buffering=0), os.getpid()
        assert self._file is not None
        return self._file


def _sum(data: bytes | memoryview) -> int:
    return zlib.crc32(data) or 1


def reserve(key: str, slots: int, weight: int, limit: float, tell: Callable[[str], None]) -> PixelCache | None:
    """The cache of a content and its options, made where there is none yet; None where it cannot be, which is told.

    The file is sparse: it takes as much of the disk as is filled. Others that were not used for longest are removed where they
    would not all have room within `limit`.

    Args:
        limit: of all caches together, in gigabytes.
    """
    whole, folder = HEADER + slots * (SUM + weight), images_folder()
    path, header = folder / f"{key}.pixels", json.dumps({"key": key, "slots": slots, "weight": weight}).encode().ljust(HEADER)
    every = f"so they are decoded whenever they are asked for ({whole / GIGA:.1f} GB when decoded)"
    if whole > limit * GIGA:
        tell(f"decoded images are not kept: cache_limit = {limit:g} gigabytes are too few for them, {every}")
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            if _is_it(path, whole, header):
                os.utime(path)
                return PixelCache(path, slots, weight)
            _make_room(folder, whole, limit, tell)
            free = shutil.disk_usage(folder).free
            if whole + SPARE > free:
                tell(f"decoded images are not kept: {folder} has room for {max(0, free - SPARE) / GIGA:.1f} GB, {every}")
                return None
            with replacing(path) as partial, partial.open("wb") as file:
                file.write(header)
                file.truncate(whole)
        return PixelCache(path, slots, weight)
    except OSError as error:
        said = system_error(error) or error
        tell(f"decoded images are not kept: {said}; {every}. IBLLM_CACHE names another place")
        return None


def _is_it(path: Path, whole: int, header: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return path.stat().st_size == whole and file.read(HEADER) == header
    except OSError:
        return False


def _make_room(folder: Path, whole: int, limit: float, tell: Callable[[str], None]) -> None:
    """Removes the files that were not used for longest until all have room; who reads one of them goes on reading it."""
    others = sorted(folder.glob("*.pixels"), key=lambda path: path.stat().st_mtime)
    held = {path: path.stat().st_size for path in others}
    gone = list[Path]()
    while held and sum(held.values()) + whole > limit * GIGA:
        path = next(iter(held))
        path.unlink(missing_ok=True)
        gone.append(path)
        del held[path]
    if gone:
        tell(f"{len(gone)} caches of other images are removed from {folder}, those not used for longest: cache_limit = {limit:g} gigabytes")


@attrs.frozen
class Held:
    """What is kept: files, and their bytes on the disk."""

    files: int
    bytes: int


def held() -> Held:
    """What is kept of all data sets in the cache folder, beside hashes: decoded images, where they lie in shards, and archives that had to be unpacked."""
    found = [path.stat() for folder in _folders() for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    return Held(len(found), sum(getattr(stat, "st_blocks", 0) * 512 or stat.st_size for stat in found))


def clean() -> Held:
    """Removes it; it is made again where it is needed. What there was is returned. A run that reads it goes on, and may have to decode.

    Raises:
        UserError: something cannot be removed.
    """
    was = held()
    for folder in _folders():
        try:
            if folder.is_dir():
                shutil.rmtree(folder)
        except OSError as error:
            raise (system_error(error) or UserError(f"{folder} cannot be removed ({error})")) from error
    return was


def _folders() -> tuple[Path, ...]:
    return images_folder(), *(cache_folder() / name for name in ("shards", "unpacked"))
