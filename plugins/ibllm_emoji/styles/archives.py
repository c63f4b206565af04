"""The archives that `npm pack` writes, read in place: nothing is unpacked. Torch-free."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs

from ibllm.plugin import UserError

#: Style → the package that has its drawings.
PACKAGES: Mapping[str, str] = {
    "noto": "@iconify-json/noto",
    "twemoji": "@iconify-json/twemoji",
    "fluent": "@iconify-json/fluent-emoji-flat",
    "openmoji": "@iconify-json/openmoji",
}
#: The package that has names in many languages.
NAMES = "emojibase-data"
#: The versions that figures were measured with.
VERSIONS: Mapping[str, str] = {
    "@iconify-json/noto": "1.2.9",
    "@iconify-json/twemoji": "1.2.5",
    "@iconify-json/fluent-emoji-flat": "1.2.6",
    "@iconify-json/openmoji": "1.2.29",
    "emojibase-data": "17.0.0",
}
COMMAND = "npm pack " + " ".join(f"{name}@{version}" for name, version in VERSIONS.items())
#: Bytes of the largest file that is read out of an archive; the largest there is has 25 million.
LARGEST = 1 << 28


@attrs.frozen
class Archive:
    """One archive of the folder.

    Attributes:
        package: its name at npm.
        path: the file.
    """

    package: str
    path: Path

    @cached_property
    def content(self) -> str:
        """A hash of the file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read(self, members: Iterable[str]) -> dict[str, Any]:
        """Name → what the JSON file ``package/NAME`` holds, of those that are there.

        Raises:
            UserError: the archive is damaged, or a file in it is no JSON or beyond all bounds.
        """
        wanted = {f"package/{name}": name for name in members}
        found: dict[str, Any] = {}
        try:
            with tarfile.open(self.path, "r|gz") as archive:
                for member in archive:
                    if member.name in wanted and member.isfile():
                        if member.size > LARGEST:
                            raise UserError(f"{self.path}: {member.name} has {member.size:,} bytes: expected at most {LARGEST:,}")
                        file = archive.extractfile(member)
                        assert file is not None
                        found[wanted[member.name]] = json.load(file)
                        if len(found) == len(wanted):
                            break
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{self.path} cannot be read ({error}): expected what npm pack writes; fetch it again: {COMMAND}") from None
        return found


def find(folder: Path) -> dict[str, Archive]:
    """Package → its archive in `folder`, by the names that `npm pack` gives its files.

    Raises:
        UserError: there is no such folder, an archive is missing, or there are two of one package.
    """
    if not folder.is_dir():
        raise UserError(f"data.path: there is no folder {folder}: expected the folder with the archives of: {COMMAND}")
    found: dict[str, Archive] = {}
    for package in VERSIONS:
        stem = package.removeprefix("@").replace("/", "-")
        files = [path for path in sorted(folder.glob(f"{stem}-*.tgz")) if path.name.removeprefix(f"{stem}-")[0].isdigit()]
        if len(files) > 1:
            raise UserError(f"{folder} has {' and '.join(path.name for path in files)}: expected one archive of {package}")
        if files:
            found[package] = Archive(package, files[0])
    if missing := [package for package in VERSIONS if package not in found]:
        raise UserError(f"{folder} has no archive of {', '.join(missing)}; in that folder: {COMMAND}")
    return found
