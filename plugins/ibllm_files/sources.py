"""Where an image's bytes lie: what records name and `images` decodes. Torch-free."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import BinaryIO

import attrs


class Source(ABC):
    """A file, or a piece of one, that holds one image as it was saved. Sources are small, hashable and may be sent to other processes."""

    __slots__ = ()

    @property
    @abstractmethod
    def name(self) -> str:
        """What messages call it."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Its place, its size and the time of its last change: what was found out about these bytes holds as long as it is the same.

        Raises:
            OSError: it is not there.
        """

    @abstractmethod
    def open(self) -> BinaryIO:
        """Its bytes, at their beginning; whoever opens it closes it. Raises `OSError` where it cannot be opened."""


def file_key(path: str | os.PathLike[str]) -> str:
    """A file's path, size in bytes and time of change in nanoseconds. Raises `OSError` where there is none."""
    found = os.stat(path)
    return f"{os.path.abspath(path)}|{found.st_size}|{found.st_mtime_ns}"


@attrs.frozen
class FileSource(Source):
    """A file of its own. Its path is kept as a text: there may be a hundred thousand."""

    name: str = attrs.field(converter=str)

    @property
    def path(self) -> Path:
        """Where it is."""
        return Path(self.name)

    @property
    def key(self) -> str:
        return file_key(self.name)

    def open(self) -> BinaryIO:
        return open(self.name, "rb")


def shown(text: str) -> str:
    """A text as any terminal and file can take it: half of a surrogate pair and control characters are written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
