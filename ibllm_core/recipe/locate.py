"""Where things stand: key paths of a TOML file and the line of each; files, folders and runs that a recipe names. Torch-free.

tomllib gives lines for syntax errors only. But a statement of TOML ends at the first line break where it can be read by itself: so a file is read statement
by statement.
"""

from __future__ import annotations

import pathlib
import re
import tomllib
from collections.abc import Mapping
from typing import Any

import attrs

from ..errors import nearest

#: A key path: names of tables and keys, numbers of array elements.
Path = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


@attrs.frozen(kw_only=True)
class Place:
    """Where something stands: ``file:line`` and the key path; for an override, ``--set KEY=VALUE`` and line 0."""

    file: str
    line: int
    key: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@attrs.frozen
class Dependency:
    """A file, a folder or a run that an option names.

    Attributes:
        path: the option's key path.
        kind: as in `ibllm_core.host.options.option`.
        where: the file or folder itself.
        weights: of a run whose weights are taken, which: ``best`` or ``raw``.
        place: where the recipe says it.
    """

    path: Path
    kind: str
    where: pathlib.Path
    weights: str
    place: Place

    def lacks(self) -> tuple[str, str, str] | None:
        """What is wrong, what would be right, and what was probably meant; None where it is there."""
        exists = {"file": self.where.is_file, "folder": self.where.is_dir, "run": self.where.is_dir}.get(self.kind, self.where.exists)
        if not exists():
            parent = self.where.parent
            near = nearest(self.where.name, [path.name for path in parent.iterdir()] if parent.is_dir() else ())
            return f"there is no {self.kind} {self.where}", f"the path of a {self.kind} that is there", near and str(parent / near)
        if self.kind == "run" and not (self.where / "recipe.toml").is_file():
            return f"{self.where} is no run: it holds no recipe.toml", "the directory of a run", ""
        what, held = ("checkpoint", "checkpoints/step-*") if self.weights == "raw" else ("model", "model")
        if self.kind == "run" and not any(self.where.glob(f"{held}/weights.safetensors")):
            return (
                f"the run {self.where} has no {what} yet",
                'a run that is done, or weights = "raw" for those of its newest checkpoint',
                "",
            )
        return None


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
