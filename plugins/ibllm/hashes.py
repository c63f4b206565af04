"""Hashes of contents, each read once: kept by place, size and time of change, in one file for all that ask. Torch-free."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

#: Seconds since a change within which a hash is not kept: a second change in the same tick of a file system's clock would not be seen.
_YOUNG = 2.0
#: Names that one query asks for.
_AT_ONCE = 500


def cache_folder() -> Path:
    """Where what can be made again is kept: ``$IBLLM_CACHE``, or ``ibllm`` in ``$XDG_CACHE_HOME``, by default in ``~/.cache``."""
    if said := os.environ.get("IBLLM_CACHE"):
        return Path(said)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ibllm"


class Keyed(Protocol):
    """Bytes somewhere: a file, or a piece of one."""

    @property
    def key(self) -> str:
        """Their place, size and time of change (``…|nanoseconds``): while it is the same, so are they. Raises `OSError` where they are not there."""

    def open(self) -> BinaryIO:
        """The bytes, at their beginning."""


class KeyedFile:
    """A file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def key(self) -> str:
        found = self.path.stat()
        return f"{self.path.absolute()}|{found.st_size}|{found.st_mtime_ns}"

    def open(self) -> BinaryIO:
        return self.path.open("rb")


def content_hashes(sources: Sequence[Keyed]) -> list[str]:
    """A hash of each one's content (BLAKE2b, 32 hexadecimal digits); empty where it cannot be read.

    What is known of a place as it stands is not read again, by any process of this user. Where nothing can be kept, everything is read.
    """
    keys = [_key(source) for source in sources]
    with kept_in("hashes.sqlite", "hashes (key TEXT PRIMARY KEY, hash TEXT NOT NULL)") as database:
        known = _known(database, [key for key in keys if key])
        new: dict[str, str] = {}
        for source, key in zip(sources, keys, strict=True):
            if key and key not in known:
                known[key] = found = _hash(source)
                if found and time.time() - int(key.rpartition("|")[2]) / 1e9 > _YOUNG:
                    new[key] = found
        if database is not None and new:
            with contextlib.suppress(sqlite3.Error), database:
                database.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?)", list(new.items()))
    return [known.get(key, "") for key in keys]


def _key(source: Keyed) -> str:
    try:
        return source.key
    except (OSError, ValueError):  # ValueError: a NUL in its name
        return ""


def _hash(source: Keyed) -> str:
    try:
        found = hashlib.blake2b(digest_size=16)
        with source.open() as file:
            while piece := file.read(1 << 20):
                found.update(piece)
        return found.hexdigest()
    except OSError:
        return ""


def _known(database: sqlite3.Connection | None, keys: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for start in range(0, len(keys) if database is not None else 0, _AT_ONCE):
        some = keys[start : start + _AT_ONCE]
        with contextlib.suppress(sqlite3.Error):
            assert database is not None
            found |= dict(database.execute(f"SELECT key, hash FROM hashes WHERE key IN ({','.join('?' * len(some))})", some).fetchall())
    return found


@contextlib.contextmanager
def kept_in(name: str, table: str) -> Iterator[sqlite3.Connection | None]:
    """A file of the cache folder with a table, by its name and columns; None where there can be none, and anew where it is damaged."""
    file, database = cache_folder() / name, None
    for _ in range(2):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(file, timeout=10)
            database.execute(f"CREATE TABLE IF NOT EXISTS {table} WITHOUT ROWID")
            break
        except sqlite3.DatabaseError as error:
            if database is not None:
                database.close()
                database = None
            if isinstance(error, sqlite3.OperationalError):  # it cannot be opened or written
                break
            with contextlib.suppress(OSError):
                file.unlink()
        except OSError:
            break
    try:
        yield database
    finally:
        if database is not None:
            database.close()
