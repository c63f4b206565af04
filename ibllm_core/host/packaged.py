"""Files that packages bring beside their code: recipes and pages of documentation. Torch-free.

A distribution names its folders in the entry-point group ``ibllm.folders``: ``recipes = "my_package.recipes"``, a folder inside an import package, with
dots for slashes; it needs no ``__init__.py``. ``recipes/small.toml`` of ``my-package`` is then ``my-package:small``. Who looks for a file runs no code.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import attrs

from ..errors import UserError, nearest
from .entry_points import FOLDERS, UNKNOWN, identity, plain

#: What a folder may hold, the entry point's name → what one file is called, and how it ends.
HOLDS: Mapping[str, tuple[str, str]] = {"recipes": ("recipe", ".toml"), "docs": ("page", ".md")}
# At least two characters before the colon, so that a Windows drive is none; a path with a slash before it (./a:b) is a path.
_ADDRESS = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9]):([^/\\].*)")


class NotPackaged(UserError):
    """No installed package has the file. `what` is wrong, `expected` would have been right, `nearest` was probably meant."""

    def __init__(self, what: str, expected: str = "", nearest: str = "") -> None:
        self.what, self.expected, self.nearest = what, expected, nearest
        near = f"did you mean {nearest!r}?" if nearest else ""
        super().__init__("; ".join(filter(None, (what, expected and f"expected {expected}", near))))


@attrs.frozen
class Packaged:
    """One file of an installed distribution; `name` is its path below the folder, without the ending."""

    distribution: str
    version: str
    name: str
    path: Path

    @property
    def address(self) -> str:
        return f"{self.distribution}:{self.name}"

    @property
    def source(self) -> str:
        """Distribution and version."""
        return f"{self.distribution} {self.version}"


def split(text: str) -> tuple[str, str] | None:
    """``my-package:small`` → its two halves; None for what is no such address, a path above all."""
    found = _ADDRESS.fullmatch(text)
    return (found[1], found[2]) if found else None


def find(what: str, address: str) -> Packaged:
    """The file that an address names; `what` is a key of `HOLDS`.

    Raises:
        NotPackaged: no installed package brings such a file.
    """
    package, name = split(address) or ("", "")
    if not package:
        raise NotPackaged(f"{address!r} is no address of a {HOLDS[what][0]}", "PACKAGE:NAME")
    files = everything(what)
    brought = [file for file in files if plain(file.distribution) == plain(package)]
    named = [file for file in brought if file.name == name]
    if named:
        return named[0]
    guess = nearest(address, [file.address for file in files])
    if brought:
        names = ", ".join(file.name for file in brought)
        raise NotPackaged(f"{brought[0].source} has no {HOLDS[what][0]} {name!r}", f"one of {names}", guess)
    known = ", ".join(dict.fromkeys(file.distribution for file in files)) or "none is installed"
    raise NotPackaged("; ".join(nothing_of(what, package)), f"a package that brings {what}: {known}", guess)


def nothing_of(what: str, package: str) -> list[str]:
    """Why a package brings nothing: it is not installed, or its entry points (of all packages, if it is empty) name no folder that is there."""
    own = [point for point in _points() if not package or plain(identity(point.dist)[0]) == plain(package)]
    wrong = []
    for point in own:
        who = " ".join(identity(point.dist))
        if point.name not in HOLDS:
            wrong.append(f"{who} registers {point.name!r} in {FOLDERS}, expected one of {', '.join(HOLDS)}")
        elif point.name == what and package:
            wrong.append(f"{who} says that its {what} are in {point.value}, but there is no {HOLDS[what][1]} file")
    try:
        return wrong or ([f"{package} {metadata.version(package)} brings no {what}"] if package else [])
    except (metadata.PackageNotFoundError, ValueError):
        return [f"no package {package!r} is installed"]


def everything(what: str) -> list[Packaged]:
    """What all installed distributions bring, by distribution and name; those that cannot be found are left out."""
    found = []
    for point in (point for point in _points() if point.name == what):
        for folder in _folders(point.value)[:1]:
            paths = (path for path in folder.rglob(f"*{HOLDS[what][1]}") if path.is_file())
            found += [Packaged(*identity(point.dist), path.relative_to(folder).with_suffix("").as_posix(), path) for path in paths]
    return sorted(found, key=lambda file: (file.distribution, file.name))


def _points() -> list[metadata.EntryPoint]:
    return [point for point in metadata.entry_points(group=FOLDERS) if identity(point.dist)[0] != UNKNOWN]


def _folders(dotted: str) -> list[Path]:
    """Where a folder inside a package lies, whether the package is installed or only linked (``pip install -e``)."""
    top, *rest = dotted.partition(":")[0].strip().split(".")
    try:
        spec = importlib.util.find_spec(top)  # a name without dots is found without importing anything
    except (ImportError, ValueError):
        return []
    folders = (Path(location, *rest) for location in (spec and spec.submodule_search_locations) or ())
    return [folder for folder in folders if folder.is_dir()]
