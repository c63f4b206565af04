"""Key paths of a TOML file, and the line of each. Torch-free.

tomllib gives lines for syntax errors only. But a statement of TOML ends at the first line break where it can be read by itself: so a file is read statement
by statement.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

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


def key_path(text: str) -> tuple[str, ...] | None:
    """The steps of a dotted key, ``stages."my stage".steps``; None where it is none."""
    try:
        nested: Any = tomllib.loads(f"{text.strip()} = 0")
    except tomllib.TOMLDecodeError:
        return None
    path: list[str] = []
    while isinstance(nested, dict) and len(nested) == 1:
        ((key, nested),) = nested.items()
        path.append(key)
    return None if isinstance(nested, dict) else tuple(path)


def split_key(text: str) -> tuple[tuple[str, ...], str] | None:
    """The key path and the text of the value of ``KEY = VALUE``; None where there is no key."""
    for equals in re.finditer("=", text):
        path = key_path(text[: equals.start()])
        if path is not None:
            return path, text[equals.end() :].strip()
    return None


def locate(text: str) -> Mapping[Path, int]:
    """The line of every table and key of a valid TOML text; what stands in an inline table or array has its parent's line."""
    found: dict[Path, int] = {}
    last: dict[Path, int] = {}  # array of tables → the number of its last table
    table: Path = ()
    start, statement = 1, ""
    for number, line in enumerate(text.split("\n"), 1):
        start, statement = (start if statement else number), f"{statement}{line}\n"
        try:
            parsed = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        if statement.lstrip().startswith("["):
            path = table = _header(parsed, found, last, start)
            found[path] = start
        elif parsed:
            key = split_key(statement)
            assert key is not None
            path = (*table, *key[0])
            found.setdefault(path, start)
        else:
            path = ()
        for length in range(1, len(path)):  # "[a.b]" without "[a]": what has no line of its own stands where its first member does
            found.setdefault(path[:length], start)
        statement = ""
    return found


def _header(nested: Any, found: dict[Path, int], last: dict[Path, int], line: int) -> Path:
    """The path of the table that a header opens."""
    path: Path = ()
    while nested:
        ((key, nested),) = nested.items()
        path = (*path, key)
        if isinstance(nested, list):
            last[path] = last.get(path, -1) + 1
            found.setdefault(path, line)
            nested = nested[0]
        if path in last:
            path = (*path, last[path])
    return path
