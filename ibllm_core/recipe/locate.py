"""Key path → line in a TOML file. Torch-free.

tomllib gives lines for syntax errors only. tomlkit keeps every character of a file, so a walk over its tree in writing
order that counts line breaks knows where each key stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import tomlkit
from tomlkit.container import Container
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Item, Key, Table

#: A key path: names of tables and keys, numbers of array elements.
Path = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dotted(path: Path) -> str:
    """The path as a recipe would write it: ``stages."my stage".steps``, ``extra[0].name``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if _BARE.fullmatch(step) else '"' + step.replace("\\", "\\\\").replace('"', '\\"') + '"'
            text += f".{name}" if text else name
    return text


def locate(text: str) -> Mapping[Path, int]:
    """The line of every table and key of a valid TOML text; what stands in an inline table or array has its parent's line.

    Empty where tomlkit refuses what tomllib took, so that a message then falls back to the file.
    """
    try:
        document = tomlkit.parse(text)
    except TOMLKitError:
        return {}
    walk = _Walk()
    walk.body(document, ())
    return walk.lines


class _Walk:
    """The walk: `line` is where the next character of the file stands."""

    def __init__(self) -> None:
        self.line = 1
        self.lines: dict[Path, int] = {}

    def body(self, container: Container, path: Path) -> None:
        for key, item in container.body:
            if key is None:
                self.line += item.as_string().count("\n")
            elif isinstance(item, AoT):
                self._tables(item, (*path, key.key))
            elif isinstance(item, Table):
                self._table(key, item, (*path, key.key))
            else:
                self._value(key, item, path)

    def _tables(self, tables: AoT, path: Path) -> None:
        for number, table in enumerate(tables.body):
            self._header(table, (*path, number))
            self.lines.setdefault(path, self.lines[(*path, number)])
            self.body(table.value, (*path, number))

    def _table(self, key: Key, table: Table, path: Path) -> None:
        if table.is_super_table() or key.is_dotted():
            # No line of its own ("[a.b]" without "[a]", or "a.b = 1"): it stands where its first member does.
            before = set(self.lines)
            self.body(table.value, path)
            inside = [line for found, line in self.lines.items() if found not in before and found[: len(path)] == path]
            self.lines.setdefault(path, min(inside, default=self.line))
        else:
            self._header(table, path)
            self.body(table.value, path)

    def _header(self, table: Table, path: Path) -> None:
        self.line += table.trivia.indent.count("\n")
        self.lines[path] = self.line
        self.line += table.trivia.trail.count("\n")

    def _value(self, key: Key, item: Item, path: Path) -> None:
        self.line += item.trivia.indent.count("\n")
        self.lines[(*path, key.key)] = self.line
        self.line += item.as_string().count("\n") + item.trivia.trail.count("\n")
