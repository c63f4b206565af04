"""Archives, read where they lie: .zip and .tar by the places of their members; a .tar that is packed as a whole is unpacked to a plain one once. Torch-free."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import posixpath
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import attrs

from ibllm.plugin import UserError
from ibllm_files.records import Passed
from ibllm_files.sources import Source, file_key, shown
from ibllm_files.trees import HIDDEN, Refused, Tree, checked, hidden, leaves
from ibllm_files.unpacked import UNPACKED, unpacked

#: Endings of archives' names.
ZIP, TAR = (".zip",), (".tar",)
#: Ending → what unpacks such a file.
PACKED: Mapping[str, Any] = {
    **dict.fromkeys((".tgz", ".tar.gz"), gzip.open),
    **dict.fromkeys((".tbz2", ".tar.bz2"), bz2.open),
    **dict.fromkeys((".txz", ".tar.xz"), lzma.open),
}
ARCHIVES = (*ZIP, *TAR, *PACKED)
#: Bytes of the largest member that is unpacked into memory.
_MOST = 1 << 30
_OUTSIDE = (
    "member that would lie outside of the archive, which is passed over",
    "members that would lie outside of the archive, which are passed over",
)
_LINK = ("link, which is not followed", "links, which are not followed")
_LOCKED = ("member that needs a password", "members that need a password")
_RARE = ("member that is packed in a rare way", "members that are packed in a rare way")
_NO_FILE = ("member that is no file", "members that are no files")


def is_archive(name: str) -> bool:
    """Whether a file's name is an archive's."""
    return name.lower().endswith(ARCHIVES)


@attrs.frozen
class Member(Source):
    """A file in an archive: `size` bytes from `start`, those of a .zip (`packed`) from the header that is there.

    Args:
        archive: its path.
        file: the file that has the bytes; where the archive is packed as a whole, another one.
        whole: bytes that it has unpacked.
    """

    archive: str
    file: Path
    member: str
    start: int
    size: int
    whole: int
    packed: int = -1

    @property
    def name(self) -> str:
        return f"{self.archive}/{self.member}"

    @property
    def key(self) -> str:
        path, size, time = file_key(Path(self.archive)).rsplit("|", 2)
        return f"{path}!{self.member}|{size}|{time}"

    def open(self) -> BinaryIO:
        if self.whole > _MOST:
            raise OSError(f"it has {self.whole:,} bytes, more than {_MOST:,}")
        with self.file.open("rb") as file:
            file.seek(self.start)
            if self.packed >= 0:
                head = file.read(30)  # a local header's fixed part ends with the lengths of the name and of what else follows
                if len(head) < 30:
                    raise OSError("the archive ends before it")
                file.seek(sum(struct.unpack("<HH", head[26:30])), os.SEEK_CUR)
            data = file.read(self.size)
        if self.packed == zipfile.ZIP_DEFLATED:
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, self.whole)
            except zlib.error as error:
                raise OSError(f"it cannot be unpacked ({error})") from error
        if len(data) != self.whole:
            raise OSError("the archive is damaged there")
        return io.BytesIO(data)


class ArchiveTree(Tree):
    """The files of an archive, or of a folder in it."""

    def __init__(self, name: str, members: Mapping[str, Member], refused: Mapping[str, str]) -> None:
        self.name, self._members, self._refused = name, members, refused

    def find(self, name: str) -> Source:
        path = checked(name)
        if leaves(path):
            raise Refused(f"the image {name} lies outside of {self.name}")
        if path in self._refused:
            raise Refused(f"the image {self.name}/{path} is a {self._refused[path]}")
        if path not in self._members:
            raise Refused(f"there is no image {self.name}/{path}{self.why_missing(name)}")
        return self._members[path]

    def files(self, passed: Passed) -> Iterator[tuple[str, Source]]:
        for name in sorted(self._members, key=lambda name: name.split("/")):
            yield name, self._members[name]

    def below(self, folder: str) -> ArchiveTree:
        if not folder:
            return self
        begin = f"{folder}/"
        inside = {name.removeprefix(begin): member for name, member in self._members.items() if name.startswith(begin)}
        refused = {name.removeprefix(begin): why for name, why in self._refused.items() if name.startswith(begin)}
        return ArchiveTree(f"{self.name}/{folder}", inside, refused)

    def top(self) -> ArchiveTree:
        """The one folder that everything is in, at any depth, or else this one."""
        tops = {name.partition("/")[0] for name in self._members}
        alone = len(tops) == 1 and all("/" in name for name in self._members)
        return self.below(tops.pop()).top() if alone else self

    def _names(self, folder: str) -> Iterable[str]:
        begin = f"{folder}/" if folder else ""
        return dict.fromkeys(name[len(begin) :].partition("/")[0] for name in self._members if name.startswith(begin))


def open_archive(path: Path, passed: Passed) -> ArchiveTree:
    """An archive's files. Members outside of it, links and hidden files are passed over.

    Raises:
        UserError: it cannot be read, or there is no room to unpack it.
    """
    found: dict[str, Member] = {}
    refused: dict[str, str] = {}
    if path.name.lower().endswith(tuple(PACKED)):
        passed.add(*UNPACKED, path.name)
    try:
        for name, member in _zip(path) if path.name.lower().endswith(ZIP) else _tar(path):
            inside = _name(name, passed)
            if not inside:
                continue
            if isinstance(member, Member):
                found[inside] = attrs.evolve(member, member=inside)
            else:
                refused[inside] = member[0]
                passed.add(*member, inside)
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{shown(str(path))}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    return ArchiveTree(str(path), found, refused).top()


def _name(name: str, passed: Passed) -> str:
    """A member's name within the archive; empty where it is passed over."""
    if "\0" in name or leaves(posixpath.normpath(name.replace("\\", "/"))) or ".." in name.split("/"):
        passed.add(*_OUTSIDE, name)
        return ""
    path = posixpath.normpath(name)
    if any(hidden(part) for part in path.split("/")):
        passed.add(*HIDDEN, path)
        return ""
    return path


#: A member's name, and where it lies or, where it is not to be read, what it is: one and several.
_Found = Iterator[tuple[str, Member | tuple[str, str]]]


def _zip(path: Path) -> _Found:
    with zipfile.ZipFile(path) as archive:
        for one in archive.infolist():
            if stat.S_ISLNK(one.external_attr >> 16):
                yield one.filename, _LINK
            elif one.flag_bits & 1:
                yield one.filename, _LOCKED
            elif one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                yield one.filename, _RARE
            elif not one.is_dir():
                place = (one.header_offset, one.compress_size, one.file_size, one.compress_type)
                yield one.filename, Member(str(path), path, one.filename, *place)


def _tar(path: Path) -> _Found:
    plain = _plain(path)
    with tarfile.open(plain, "r:") as archive:
        for one in archive:
            if one.issym() or one.islnk():
                yield one.name, _LINK
            elif one.isreg():
                yield one.name, Member(str(path), plain, one.name, one.offset_data, one.size, one.size)
            elif not one.isdir():
                yield one.name, _NO_FILE


def _plain(path: Path) -> Path:
    """A plain .tar: the file itself, or what is in it, unpacked."""
    opener = next((how for ending, how in PACKED.items() if path.name.lower().endswith(ending)), None)
    if opener is None:
        return path

    def write(to: Path, room: Callable[[], None]) -> None:
        with opener(path, "rb") as packed, to.open("wb") as out:
            while data := packed.read(1 << 20):
                room()
                out.write(data)

    return unpacked(file_key(path), ".tar", str(path), write)
