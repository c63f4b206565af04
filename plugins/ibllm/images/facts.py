"""What images are, looked at once: size and kind, and whether they can be read; what is found is kept by content. Torch-free. Shape: n images."""

from __future__ import annotations

import contextlib
import sqlite3
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO

import attrs
import numpy as np
import numpy.typing as npt

from ibllm_core.errors import Notice, UserError

from ..hashes import kept_in
from ..pictures import MOST_PIXELS, explained, is_animated, too_large
from .sources import ImageSource

if TYPE_CHECKING:
    from PIL.Image import Image

#: That look at images at once; most of it is done outside Python.
THREADS = 4
#: A first look that takes longer is told, in seconds.
LONG = 5.0
#: The file of what is known of contents. Another Pillow reads other formats, and may judge otherwise.
FILE = "images.sqlite"
_TABLE = "images (content TEXT PRIMARY KEY, width INT, height INT, kind TEXT, animated INT, broken TEXT)"
#: Contents that one query asks for.
_AT_ONCE = 500
#: What stands for an image's name in what is kept of its content.
_NAME = "\x1f"
_Row = tuple[int, int, str, int, str]


@attrs.frozen(eq=False)
class Facts:
    """What is known of images without having their pixels.

    Attributes:
        contents: n hashes of their bytes (`content_hashes`); empty where they cannot be read.
        sizes: (n 2) int64, width and height in pixels; zeros where there are none.
        kinds: n words, format and Pillow's mode (``JPEG RGB``); empty where they are not known.
        animated: (n) bool, has frames that follow the first.
        broken: number → why it cannot be read, a sentence without its full stop.
    """

    contents: Sequence[str]
    sizes: npt.NDArray[np.int64]
    kinds: Sequence[str]
    animated: npt.NDArray[np.bool_]
    broken: Mapping[int, str]


def look(sources: Sequence[ImageSource], contents: Sequence[str], most: int = MOST_PIXELS, raised_by: str = "") -> Facts:
    """What images are; a content that is known is not looked at again, by any process of this user.

    A JPEG or PNG is broken where its end is missing, an image of another format where it cannot be decoded: damage in the midst of a JPEG or PNG
    is met when it is decoded.

    Args:
        contents: the hash of each one's bytes; empty where they cannot be read.
        most: of pixels; an image with more is broken.
        raised_by: the option that this is.
    """
    from PIL import Image, __version__

    first = {content: number for number, content in reversed(list(enumerate(contents))) if content}
    began, version = time.monotonic(), __version__
    with kept_in(FILE, _TABLE) as database:
        known = _known(database, first, version)
        new = {content: number for content, number in first.items() if content not in known}
        with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as threads:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `most` decides
            found = dict(zip(new, threads.map(_look, [sources[number] for number in new.values()]), strict=True))
        if database is not None and found:
            with contextlib.suppress(sqlite3.Error), database:
                rows = [(f"{version} {content}", *row) for content, row in found.items() if row[4] != _GONE]
                database.executemany("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?)", rows)
    known |= found
    if new and (spent := time.monotonic() - began) > LONG:
        said = f"{len(new):,} images were looked at for the first time, in {spent:.0f} s; a next start looks at new ones alone"
        warnings.warn(Notice(said), stacklevel=2)
    return _facts([known[content] if content else _unread(_GONE) for content in contents], contents, sources, most, raised_by)


def _known(database: sqlite3.Connection | None, contents: Iterable[str], version: str) -> dict[str, _Row]:
    found: dict[str, _Row] = {}
    keys = [f"{version} {content}" for content in contents]
    for start in range(0, len(keys) if database is not None else 0, _AT_ONCE):
        some = keys[start : start + _AT_ONCE]
        with contextlib.suppress(sqlite3.Error):
            assert database is not None
            query = f"SELECT * FROM images WHERE content IN ({','.join('?' * len(some))})"
            found |= {row[0].partition(" ")[2]: row[1:] for row in database.execute(query, some)}
    return found


def absent(source: ImageSource, error: Exception) -> str:
    """Why a source cannot be opened."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"there is no image {source.name}"
    return f"the image {source.name} cannot be opened ({getattr(error, 'strerror', None) or error})"


#: Stands for an image that is not there, which is no property of any content.
_GONE = "gone"


def _unread(why: str) -> _Row:
    return 0, 0, "", 0, why


def _look(source: ImageSource) -> _Row:
    """(width, height, kind, animated, why it cannot be read) of one image."""
    try:
        with source.open() as file:
            return (*_header(file, _NAME), "")
    except UserError as error:
        return _unread(error.message)
    except (OSError, ValueError):
        return _unread(_GONE)


def _header(file: BinaryIO, name: str) -> tuple[int, int, str, int]:
    from PIL import Image

    with explained(name), Image.open(file) as image:
        found = (*image.size, f"{image.format} {image.mode}", int(is_animated(image)))
        if image.width * image.height <= MOST_PIXELS and not _whole(file, image):
            file.seek(0)
            with Image.open(file) as again:
                again.load()
    return found


def _whole(file: BinaryIO, image: Image) -> bool:
    """Whether the end is there, of a format where it can be told without decoding."""
    if image.format == "PNG":
        try:
            image.verify()
        except Exception:  # whatever Pillow raises: decoding it decides
            return False
        return True
    return image.format in ("JPEG", "MPO") and _ends(file)


def _ends(file: BinaryIO, chunk: int = 1 << 20) -> bool:
    """Whether a JPEG's end marker follows where its header was read to: within its data these two bytes cannot stand."""
    last = b""
    while data := file.read(chunk):
        if b"\xff\xd9" in last + data:
            return True
        last = data[-1:]
    return False


def _facts(rows: Sequence[_Row], contents: Sequence[str], sources: Sequence[ImageSource], most: int, raised_by: str) -> Facts:
    broken = dict[int, str]()
    for number, (width, height, _, _, why) in enumerate(rows):
        name = f"the image {sources[number].name}" if why or width * height > most else ""
        if why == _GONE:
            broken[number] = unopened(sources[number])
        elif why:
            broken[number] = why.replace(_NAME, name)
        elif name:
            broken[number] = too_large(name, width, height, most, raised_by)
    return Facts(
        contents=contents,
        sizes=np.array([row[:2] for row in rows], np.int64).reshape(-1, 2),
        kinds=[row[2] for row in rows],
        animated=np.array([row[3] for row in rows], np.bool_),
        broken=broken,
    )


def unopened(source: ImageSource) -> str:
    """Why a source cannot be opened, found by trying."""
    try:
        source.open().close()
    except (OSError, ValueError) as error:
        return absent(source, error)
    return f"the image {source.name} could not be opened for a while"
