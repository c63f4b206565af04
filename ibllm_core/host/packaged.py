"""Files that packages bring beside their code: recipes and pages of documentation. Torch-free.

A distribution says in the entry-point group ``ibllm.folders`` where its folders are::

    [project.entry-points."ibllm.folders"]
    recipes = "my_package.recipes"
    docs = "my_package.docs"

The value is a folder inside an import package, with dots for slashes; it needs no ``__init__.py``. The recipe ``recipes/small.toml`` of the
distribution ``my-package`` is then ``my-package:small``. Nothing of the package is imported on the way: who looks for a file runs no code.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs

from ..errors import UserError, nearest
from .entry_points import FOLDERS as GROUP
from .entry_points import UNKNOWN, identity, plain

#: What a folder may hold, the entry point's name → how its files end.
FOLDERS: Mapping[str, str] = {"recipes": ".toml", "docs": ".md"}
#: What one file of a folder is called in messages.
_ONE: Mapping[str, str] = {"recipes": "recipe", "docs": "page"}
# At least two characters before the colon, so that a Windows drive is none; a path with a slash before it (./a:b) is a path.
_ADDRESS = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9]):([^/\\].*)")


class NotPackaged(UserError):
    """No installed package has the file. `what` is wrong, `expected` would have been right, `nearest` was probably meant."""

    def __init__(self, what: str, expected: str = "", nearest: str = "") -> None:
        self.what, self.expected, self.nearest = what, expected, nearest
        guess = f"did you mean {nearest!r}?" if nearest else ""
        super().__init__("; ".join(part for part in (what, expected and f"expected {expected}", guess) if part))


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
    def summary(self) -> str:
        """What the file says of itself: the comment or the heading that it begins with."""
        try:
            with self.path.open(encoding="utf-8-sig", errors="replace") as file:
                first = file.readline().strip()
        except OSError:
            return ""
        return first.lstrip("# ") if first.startswith("#") else ""


def split(text: str) -> tuple[str, str] | None:
    """``my-package:small`` → its two halves; None for what is no such address, a path above all."""
    found = _ADDRESS.fullmatch(text)
    return (found[1], found[2]) if found else None


def find(what: str, address: str) -> Packaged:
    """The file that an address names.

    Args:
        what: a key of `FOLDERS`.

    Raises:
        NotPackaged: there is no such package, it brings no such folder, or there is no such file in it.
    """
    halves = split(address)
    if halves is None:
        raise NotPackaged(f"{address!r} is no address of a {_ONE[what]}", "PACKAGE:NAME")
    try:
        found = of(what, halves[0])
    except NotPackaged as error:
        raise NotPackaged(error.what, error.expected, _meant(what, error.nearest, halves[1])) from None
    for file in found:
        if file.name == halves[1]:
            return file
    guess = nearest(halves[1], [file.name for file in found])
    known = ", ".join(file.name for file in found)
    package = f"{found[0].distribution} {found[0].version}"
    raise NotPackaged(f"{package} has no {_ONE[what]} {halves[1]!r}", f"one of {known}", f"{halves[0]}:{guess}" if guess else "")


def _meant(what: str, distribution: str, name: str) -> str:
    """The address of the file of that name in a distribution, or else of the nearest; the distribution alone where none is near."""
    known = [file.name for file in everything(what) if file.distribution == distribution]
    guess = name if name in known else nearest(name, known)
    return f"{distribution}:{guess}" if guess else distribution


def of(what: str, distribution: str) -> list[Packaged]:
    """What one distribution brings, by name; never nothing.

    Raises:
        NotPackaged: it is not installed, brings no such folder, or the folder is missing or empty.
    """
    found = [point for point in _points() if plain(identity(point.dist)[0]) == plain(distribution)]
    points = [point for point in found if point.name == what]
    if points:
        files = _files(what, points)
        if files:
            return files
        name, version = identity(points[0].dist)
        raise NotPackaged(f"{name} {version} says that its {what} are in {points[0].value}, but there is no {FOLDERS[what]} file")
    known = sorted({identity(point.dist)[0] for point in _points() if point.name == what})
    expected = f"a package that brings {what}: {', '.join(known) or 'none is installed'}"
    guess = nearest(distribution, known)
    try:
        there = metadata.distribution(distribution)
    except (metadata.PackageNotFoundError, ValueError):
        raise NotPackaged(f"no package {distribution!r} is installed", expected, guess) from None
    raise NotPackaged(f"{there.name} {there.version} brings no {what}{''.join(f'; {text}' for text in strays(found))}", expected, guess)


def everything(what: str) -> list[Packaged]:
    """What all installed distributions bring, by distribution and name; those that cannot be found are left out."""
    return _files(what, [point for point in _points() if point.name == what])


def strays(points: Iterable[metadata.EntryPoint] | None = None) -> list[str]:
    """A sentence for each entry point whose name says nothing: probably misspelt."""
    found = []
    for point in _points() if points is None else points:
        if point.name not in FOLDERS:
            name, version = identity(point.dist)
            found.append(f"{name} {version} registers {point.name!r} in {GROUP}, expected one of {', '.join(FOLDERS)}")
    return found


def documentation_url(distribution: str) -> str:
    """Where a distribution says that it is documented; empty where it does not say."""
    try:
        about: Any = metadata.metadata(distribution)
    except (metadata.PackageNotFoundError, ValueError):
        return ""
    pairs = (line.partition(",") for line in about.get_all("Project-URL") or ())
    named = {label.strip().lower(): url.strip() for label, _, url in pairs}
    return named.get("documentation") or named.get("homepage") or about.get("Home-page") or ""


def _points() -> list[metadata.EntryPoint]:
    return [point for point in metadata.entry_points(group=GROUP) if identity(point.dist)[0] != UNKNOWN]


def _files(what: str, points: Iterable[metadata.EntryPoint]) -> list[Packaged]:
    found: list[Packaged] = []
    for point in points:
        name, version = identity(point.dist)
        folder = _folder(point.value)
        if folder is not None:
            paths = [path for path in folder.rglob(f"*{FOLDERS[what]}") if path.is_file()]
            found += [Packaged(name, version, path.relative_to(folder).with_suffix("").as_posix(), path) for path in paths]
    return sorted(found, key=lambda file: (file.distribution, file.name))


def _folder(dotted: str) -> Path | None:
    """Where a folder inside a package lies, whether the package is installed or only linked (``pip install -e``)."""
    top, *rest = dotted.partition(":")[0].strip().split(".")
    try:
        spec = importlib.util.find_spec(top)  # a name without dots is found without importing anything
    except (ImportError, ValueError):
        return None
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(location, *rest)
        if folder.is_dir():
            return folder
    return None
