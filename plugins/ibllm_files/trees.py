"""Folders that files are looked for in, on disk or in an archive. Torch-free."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path

from ibllm.plugin import UserError, nearest
from ibllm_files.records import Passed
from ibllm_files.sources import FileSource, Source, shown

#: What is passed over, one and several.
HIDDEN = ("hidden file or folder, which is passed over", "hidden files and folders, which are passed over")
_AGAIN = ("folder that a link leads to once more, which is read once", "folders that links lead to once more, which are read once")
_NOTHING = ("link to nothing, or device, which is passed over", "links to nothing, or devices, which are passed over")


class Refused(Exception):
    """What is wrong with a record, for its line."""


class Tree(ABC):
    """Files below one folder, by their names relative to it, with ``/`` between its parts."""

    #: What messages call it.
    name: str

    @abstractmethod
    def find(self, name: str) -> Source:
        """The file that a record names. Raises `Refused` for a name that no file can have or that leads out of the folder."""

    @abstractmethod
    def files(self, passed: Passed) -> Iterator[tuple[str, Source]]:
        """Every file with its name, in order, at any depth; what is hidden is passed over."""

    @abstractmethod
    def below(self, folder: str) -> Tree:
        """A folder in it."""

    @abstractmethod
    def _names(self, folder: str) -> Iterable[str]:
        """What lies in a folder; nothing where there is no such folder."""

    def why_missing(self, name: str) -> str:
        """The likely cause that there is no such file, as the end of a message; empty where none is known."""
        if "\\" in name and (likely := self._likely(name.replace("\\", "/"))) is not None:
            return f"; did you mean {likely}, with / between folders?"
        likely = self._likely(name)
        if likely is None:
            return ""
        if likely == name:
            return ""
        if likely.casefold() == name.casefold():
            return f"; there is {shown(likely)}: capital and small letters differ"
        if plain(likely) == plain(name):
            return f"; there is {likely}, whose name is written with other Unicode characters that look the same (NFC and NFD)"
        return f"; did you mean {shown(likely)}?"

    def _likely(self, name: str) -> str | None:
        """The file that a name probably means, part by part; None where there is nothing like it."""
        found = ""
        parts = posixpath.normpath(name).split("/")
        for number, part in enumerate(parts):
            there = list(self._names(found))
            same = [one for one in there if one == part] or [one for one in there if plain(one) == plain(part)]
            if not same and number == len(parts) - 1:
                stems = {posixpath.splitext(plain(one))[0]: one for one in there}
                stem = posixpath.splitext(plain(part))[0]
                near = stem if stem in stems else nearest(stem, stems)
                same = [stems[near]] if near else []
            if not same:
                return None
            found = posixpath.join(found, same[0])
        return found


def plain(name: str) -> str:
    """A name as it looks: without the differences of case and of Unicode's forms."""
    return unicodedata.normalize("NFC", name).casefold()


def checked(name: str) -> str:
    """A record's name of a file, its dots resolved. Raises `Refused` where no file can have it."""
    if "\0" in name:
        raise Refused(f"the image {shown(name)} has a NUL character in its name")
    return posixpath.normpath(name)


def leaves(name: str) -> bool:
    """True for a name that leads out of the folder that it is relative to."""
    return name.startswith("/") or name == ".." or name.startswith("../") or re.match(r"[A-Za-z]:[\\/]", name) is not None


class DiskTree(Tree):
    """A folder on disk.

    Args:
        outside: names may lead out of it.
    """

    def __init__(self, root: Path, outside: bool = False) -> None:
        self.root, self.name, self._outside = root, str(root), outside
        self._within = "" if self.name == "." else self.name

    def find(self, name: str) -> Source:
        path = checked(name)
        if leaves(path) and not self._outside:
            inside = os.path.relpath(path, self.root) if path.startswith("/") else path
            if inside.startswith("..") or not path.startswith("/"):
                raise Refused(f"the image {name} lies outside of {self.root}; outside = true lets a table name such files")
        return FileSource(os.path.join(self._within, path))

    def files(self, passed: Passed) -> Iterator[tuple[str, Source]]:
        seen: set[tuple[int, int]] = set()

        def walk(folder: str) -> Iterator[str]:
            here = os.path.join(self.root, folder)
            try:
                found = os.stat(here)
                names = sorted(os.listdir(here))
            except OSError as error:
                raise UserError(f"{shown(here)}: cannot be read ({error.strerror})") from None
            if (found.st_dev, found.st_ino) in seen:
                passed.add(*_AGAIN, folder)
                return
            seen.add((found.st_dev, found.st_ino))
            for name in names:
                path = posixpath.join(folder, name)
                full = os.path.join(here, name)
                if hidden(name):
                    passed.add(*HIDDEN, path)
                elif os.path.isdir(full):
                    yield from walk(path)
                elif os.path.isfile(full):
                    yield path
                else:
                    passed.add(*_NOTHING, path)

        for path in walk(""):
            yield path, FileSource(os.path.join(self._within, path))

    def below(self, folder: str) -> DiskTree:
        return DiskTree(self.root / folder, self._outside)

    def _names(self, folder: str) -> Iterable[str]:
        try:
            return sorted(os.listdir(os.path.join(self.root, folder)))
        except (OSError, ValueError):
            return ()


def hidden(name: str) -> bool:
    """True for a file or folder that programs keep for themselves: ``.ipynb_checkpoints``, ``._image.jpg``, ``__MACOSX``."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")
