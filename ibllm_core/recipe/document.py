"""A recipe as plain data, with the place of every key; and how one document is laid over another. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from ..errors import nearest
from .locate import Path, dotted
from .mistakes import Mistakes
from .schema import SECTIONS, Place
from .words import listing

#: Tables whose members a recipe may remove with ``NAME = false``.
REMOVABLE = tuple(section.name for section in SECTIONS if section.removable)


@attrs.define
class Document:
    """Merged tables and where each key was written last. `file` is the recipe that was asked for."""

    file: str
    data: dict[str, Any] = attrs.field(factory=dict)
    places: dict[Path, Place] = attrs.field(factory=dict)

    def place(self, *path: str | int) -> Place:
        """Where a key stands; for one that nobody wrote, where its nearest ancestor does."""
        for length in range(len(path), 0, -1):
            found = self.places.get(path[:length])
            if found is not None:
                return attrs.evolve(found, key=dotted(path))
        return Place(file=self.file, line=1, key=dotted(path))

    def get(self, *path: str) -> Any:
        """The value at a path, or None."""
        value: Any = self.data
        for step in path:
            if not isinstance(value, Mapping) or step not in value:
                return None
            value = value[step]
        return value


def removable(path: Path) -> bool:
    """Whether ``path = false`` means "take it away"."""
    if len(path) == 2:
        return path[0] in REMOVABLE and path != ("model", "width")
    return len(path) == 4 and path[0] == "stages" and path[2] == "losses"


def overlay(base: Document, upper: Document, mistakes: Mistakes) -> None:
    """Lays `upper` over `base`, key by key; a table whose ``use`` changes is replaced whole."""
    _overlay_table(base, upper, base.data, upper.data, (), mistakes)


def _overlay_table(base: Document, upper: Document, old: dict[str, Any], new: Mapping[str, Any], path: Path, mistakes: Mistakes) -> None:
    for key, value in new.items():
        here = (*path, key)
        if value is False and removable(here) and key not in old:
            known = [name for name, table in old.items() if isinstance(table, dict)] if len(here) == 2 else list(old)
            mistakes.add(upper.place(*here), "there is nothing to remove", expected=listing(known), nearest=nearest(key, known))
            continue
        before = old.get(key)
        if isinstance(before, dict) and isinstance(value, dict) and value.get("use", before.get("use")) == before.get("use"):
            _overlay_table(base, upper, before, value, here, mistakes)
        elif isinstance(value, dict) and not isinstance(before, dict):
            old[key] = {}
            _move_places(base, upper, here, deep=False)
            _overlay_table(base, upper, old[key], value, here, mistakes)
        else:
            old[key] = value
            _move_places(base, upper, here, deep=True)


def _move_places(base: Document, upper: Document, path: Path, *, deep: bool) -> None:
    """The places at and below `path` become `upper`'s; with `deep` False only the one at `path`, and those below are dropped."""
    for found in [found for found in base.places if found[: len(path)] == path]:
        del base.places[found]
    for found, place in upper.places.items():
        if found == path or (deep and found[: len(path)] == path):
            base.places[found] = place


def removals(document: Document) -> None:
    """Takes away what is ``false``, and every mention of it: a loss in the stages, a metric in their validation, a part in what they train."""
    gone = {kind: _take(document.data.get(kind)) for kind in REMOVABLE}
    stages = document.data.get("stages")
    for stage in stages.values() if isinstance(stages, dict) else ():
        if not isinstance(stage, dict):
            continue
        _forget(stage, "losses", gone["losses"])
        _take(stage.get("losses"))
        _forget(stage, "train", gone["model"])
        _forget(stage.get("validate"), "metrics", gone["metrics"])
    _forget(document.data, "order", gone["stages"])


def _take(table: Any) -> set[str]:
    names = {name for name, value in table.items() if value is False and name != "width"} if isinstance(table, dict) else set()
    for name in names:
        del table[name]
    return names


def _forget(table: Any, key: str, names: Iterable[str]) -> None:
    held = table.get(key) if isinstance(table, dict) else None
    if isinstance(held, list):
        table[key] = [name for name in held if not (isinstance(name, str) and name in names)]
    elif isinstance(held, dict):
        for name in names:
            held.pop(name, None)
