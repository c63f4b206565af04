"""The script of a world: plain text, a caption a line. Torch-free.

A line without a place is the next of a sequence, which goes once around the world; ``COLUMN, ROW: text`` puts something in its place. Both count in
cells of the model's captions, or in whole canvases where captions name no cells. ``title:``, ``columns:`` and ``rows:`` may come first; ``#`` begins a
line that is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import attrs

from ibllm_core.errors import UserError

#: Mistakes that are told of a script, and characters of a line that are shown.
MOST, CHARACTERS = 20, 80
_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_PLACED = re.compile(rf"({_NUMBER})\s*[,，]\s*({_NUMBER})\s*[:：]\s*(.*)")
_SETTING = re.compile(r"(title|columns|rows)\s*[:：]\s*(.*)", re.IGNORECASE)


@attrs.frozen
class Entry:
    """One line of a script.

    Attributes:
        text: a caption, or what is at a place.
        line: its number, from 1.
        place: column and row of its top left corner; None in a sequence.
    """

    text: str
    line: int
    place: tuple[float, float] | None = None


@attrs.frozen
class Script:
    """A script that was read.

    Attributes:
        name: of its file, for messages.
        entries: at least one; all with a place or none.
        columns, rows: the world's size as the script gives it.
        mistakes: lines that could not be read and what is wrong there; `wrong` tells of them with what is found later.
    """

    name: str
    entries: Sequence[Entry]
    title: str = ""
    columns: float | None = None
    rows: float | None = None
    mistakes: Sequence[tuple[int, str]] = ()

    @property
    def placed(self) -> bool:
        return self.entries[0].place is not None

    def wrong(self, mistakes: Iterable[tuple[int, str]]) -> Mistakes:
        """The error that tells of lines and what is wrong there, of those of `mistakes` as well; line 0 is the script as a whole."""
        return Mistakes(self.name, sorted({*self.mistakes, *mistakes}))


class Mistakes(UserError):
    """What is wrong in a script: at most `MOST` mistakes are told, the first ones, and how many more there are."""

    def __init__(self, name: str, mistakes: Sequence[tuple[int, str]]) -> None:
        self.mistakes = mistakes
        told = [f"{name}:{line}: {text}" if line else f"{name}: {text}" for line, text in mistakes[:MOST]]
        more = [f"{name}: and {len(mistakes) - MOST} more mistakes"] if len(mistakes) > MOST else []
        super().__init__("\n".join(told + more))


def quoted(text: str) -> str:
    """A text of a script for a message, no more than `CHARACTERS` of it."""
    return repr(text if len(text) <= CHARACTERS else f"{text[: CHARACTERS - 1]}…")


def parse(text: str, name: str = "script", *, strict: bool = True) -> Script:
    """A script's text, read.

    Args:
        name: of its file, for messages.
        strict: raise what is wrong; otherwise the script keeps it, to be told with what a model finds wrong (`Script.wrong`).

    Raises:
        UserError: with every mistake in it and its line, or that it says nothing.
    """
    entries: list[Entry] = []
    settings: dict[str, str | float] = {}
    mistakes: list[tuple[int, str]] = []
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        line = " ".join(raw.split())
        if not line or line.startswith("#"):
            continue
        entry, problem = None, ""
        if (found := _SETTING.fullmatch(line)) is not None:
            problem = _set(settings, found[1].lower(), found[2], bool(entries))
        elif (found := _PLACED.fullmatch(line)) is not None:
            entry = Entry(found[3], number, (float(found[1]), float(found[2])))
            problem = "" if found[3] else "a place with nothing in it: expected COLUMN, ROW: text"
        else:
            entry = Entry(line, number)
        if entry and not problem and entries and (entry.place is None) != (entries[0].place is None):
            problem = (
                f"line {entries[0].line} {'has a place' if entries[0].place else 'has none'}: expected a place in every line, or in none"
            )
        if problem:
            mistakes.append((number, problem))
        elif entry:
            entries.append(entry)
    script = Script(name, entries, **settings, mistakes=tuple(mistakes))  # type: ignore[arg-type]
    if mistakes and (strict or not entries):
        raise script.wrong(())
    if not entries:
        raise UserError(f"{name}: it says nothing; expected a caption a line, or COLUMN, ROW: text")
    return script


def _set(settings: dict[str, str | float], key: str, value: str, late: bool) -> str:
    """Notes a setting; says what is wrong with it."""
    if late:
        return f"{key}: expected before the first caption"
    if key in settings:
        return f"{key}: given twice"
    if key == "title":
        settings[key] = value
        return ""
    if re.fullmatch(_NUMBER, value) is None or float(value) <= 0:
        return f"{key} = {quoted(value)}: expected a number greater than 0"
    settings[key] = float(value)
    return ""
