"""What every format gives: records, and what is wrong with them, by file and line. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

from ibllm_files.config import FilesConfig
from ibllm_files.sources import Source, shown

#: What a record has, by the option `holds`.
HELD: Mapping[str, tuple[str, ...]] = {"pairs": ("image", "caption"), "images": ("image",), "captions": ("caption",)}


@attrs.frozen(kw_only=True)
class Record:
    """One image with one caption, or only one of them. A machine's caption says what wrote it in `written_by`.

    `file`, `line` and `what` say where it stands: in a line of a file, or in its nth row, annotation, …; line 0 is the whole file.
    """

    file: str
    line: int = 0
    what: str = ""
    image: Source | None = None
    caption: str = ""
    language: str = ""
    split: str = ""
    question: str = ""
    answer: str = ""
    written_by: str = ""

    @property
    def place(self) -> str:
        """For messages."""
        return place_of(self.file, self.line, self.what)


def place_of(file: str, line: int, what: str = "") -> str:
    """``file:line``, or ``file, row 7``."""
    return f"{file}, {what} {line}" if what else f"{file}:{line}" if line else file


class Problems:
    """Collects records that cannot be used, so that all are told at once, or left out.

    Args:
        path: of the data.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: list[tuple[str, str | Callable[[], str]]] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, place: str, message: str | Callable[[], str]) -> None:
        """One more; a message that takes time to make is made where it is shown."""
        self._found.append((place, message))

    def lines(self, most: int | None = None) -> list[str]:
        """All of them, or the first, in the order of their places; a line each."""
        found = sorted(self._found, key=lambda one: _order(one[0]))[:most]
        return [shown(f"{place}: {message if isinstance(message, str) else message()}") for place, message in found]


def _order(place: str) -> tuple[str, int]:
    """A place's file and number, so that line 10 follows line 9."""
    found = re.fullmatch(r"(.*\D)(\d+)", place, re.DOTALL)
    return (found[1], int(found[2])) if found else (place, 0)


class Passed:
    """What is passed over without being wrong, counted under what it is, with the names of the first."""

    SHOWN = 3

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[str]] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._names: dict[tuple[str, str], set[str]] = {}

    def add(self, one: str, many: str, name: str, count: int = 1) -> None:
        """`count` more of what is called so, in the singular and in the plural."""
        key = (one, many)
        self._counts[key] = self._counts.get(key, 0) + count
        names = self._found.setdefault(key, [])
        if len(names) < self.SHOWN and name not in names:
            names.append(name)

    def once(self, one: str, many: str, name: str) -> None:
        """As `add`, but a name counts once."""
        if name not in self._names.setdefault((one, many), set()):
            self._names[one, many].add(name)
            self.add(one, many, name)

    def sentences(self) -> list[str]:
        """``3 hidden files (.DS_Store, …)`` for each."""
        said = []
        for key, count in self._counts.items():
            names = [shown(name) for name in self._found[key] if name]
            listed = f" ({', '.join(names)}{', …' if count > len(names) else ''})" if names else ""
            said.append(f"{count:,} {key[0] if count == 1 else key[1]}{listed}")
        return said


@attrs.frozen(kw_only=True)
class Reading:
    """What a format is read with: the options, and where it puts what it cannot use."""

    config: FilesConfig
    problems: Problems
    passed: Passed = attrs.field(factory=Passed)

    @property
    def held(self) -> Sequence[str]:
        """What a record has to have."""
        return HELD[self.config.holds]
