"""Recipe files and overrides → one document: plain data, with the place of every key; and plain data → TOML. Torch-free."""

from __future__ import annotations

import os.path
import pathlib
import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import tomlkit

from ..errors import nearest
from ..host import packaged
from .locate import Mistakes, Path, Place, dotted, locate, split_key
from .schema import FORMAT, SECTIONS, Recipe, Seeds
from .words import keys, listing, show

#: Keys that no override may set.
OF_FILES = ("extends", "format")
#: Tables whose members a recipe may remove with ``NAME = false``.
REMOVABLE = tuple(section.name for section in SECTIONS if section.removable)
#: Characters of a table that still stands in one line.
WIDEST = 110
#: Bytes of a recipe's file, and its levels, that nobody writes by hand.
_LARGEST, _DEEPEST = 1 << 22, 40
#: The order of a resolved recipe's keys and tables; others follow as they come.
_ORDER = (*keys(Recipe), *(section.name for section in SECTIONS))
_AT = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")


@attrs.define
class Document:
    """Merged tables and where each key was written last. `file` is the recipe that was asked for."""

    file: str
    data: dict[str, Any] = attrs.field(factory=dict)
    places: dict[Path, Place] = attrs.field(factory=dict)

    def place(self, *path: str | int) -> Place:
        """Where a key stands; for one that nobody wrote, where its nearest ancestor does."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return attrs.evolve(self.places[path[:length]], key=dotted(path))
        return Place(file=self.file, line=1, key=dotted(path))

    def get(self, *path: str) -> Any:
        """The value at a path, or None."""
        value: Any = self.data
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        return value

    def put(self, path: tuple[str, ...], value: Any, place: Place) -> None:
        """Writes a value at a key path, in place of what stood there."""
        table = self.data
        for depth, step in enumerate(path[:-1], 1):
            table[step] = dict(table[step]) if isinstance(table.get(step), dict) else {}  # a copy: a value put earlier is its owner's
            self.places.setdefault(path[:depth], place)
            table = table[step]
        table[path[-1]] = value
        self.places = {at: said for at, said in self.places.items() if at[: len(path)] != path} | {path: place}


def read(path: str | os.PathLike[str], sets: Iterable[str], mistakes: Mistakes, over: Iterable[Document] = ()) -> Document:
    """The file, what it extends, the documents laid over it and the overrides, as one; `RecipeErrors` where a file cannot be read."""
    file = os.fspath(path)
    layers = list(_chain(file, mistakes))
    for layer in layers:
        if "base" in layer.data and {"primary", "seeds"} & layer.data.keys():
            mistakes.fail(layer.place("base"), "this is a study, no recipe", "a recipe", hint=f"ibllm ablate {shlex.quote(layer.file)}")
    _check_formats(layers, mistakes)
    document = Document(file=layers[0].file)
    for layer in (*reversed(layers), *over, _overrides(file, sets, mistakes)):
        seed = document.data.get("seed")
        if type(seed) is int and isinstance(layer.data.get("seed"), dict):  # then it still holds for the other purposes
            document.data["seed"] = dict.fromkeys(keys(Seeds), seed)
        _overlay(document.data, layer.data, (), document, layer, mistakes)
    _remove(document)
    return document


def read_file(file: str, mistakes: Mistakes) -> Document:
    """One TOML file, named like a recipe, with the places of its keys; `RecipeErrors` where it cannot be read."""
    return next(_chain(file, mistakes))


def _chain(file: str, mistakes: Mistakes) -> Iterator[Document]:
    """The file and its ancestors, the nearest first."""
    said = Place(file=file, line=0, key="")
    seen: list[str] = []
    file = file if os.path.isfile(file) else _unpacked(file, said, mistakes)
    while True:
        if any(os.path.realpath(file) == os.path.realpath(earlier) for earlier in seen):
            mistakes.fail(said, f"extends itself: {' → '.join([*seen, file])}", "a chain that ends")
        layer = _read_one(file, said, seen, mistakes)
        yield layer
        base = layer.data.pop("extends", None)
        if base is None:
            return
        said = layer.place("extends")
        if not isinstance(base, str) or "\0" in base:
            expected = "a string, the path of a recipe relative to this file or PACKAGE:RECIPE"
            mistakes.fail(said, f"{show(base)} has the wrong type", expected)
        seen.append(file)
        relative = os.path.normpath(os.path.join(os.path.dirname(file), base))
        file = _unpacked(base, said, mistakes) if packaged.split(base) else relative


def _unpacked(file: str, said: Place, mistakes: Mistakes) -> str:
    """The file that ``package:recipe`` stands for; a path as it is."""
    try:
        return str(packaged.find("recipes", file).path) if packaged.split(file) else file
    except packaged.NotPackaged as error:
        mistakes.fail(said, error.what, error.expected, nearest=error.nearest)


def _read_one(file: str, said: Place, seen: Sequence[str], mistakes: Mistakes) -> Document:
    """One file. `said` is where its name stands, `seen` the files that lead to it."""
    path = pathlib.Path(file)
    if path.exists() and not path.is_dir() and (not path.is_file() or path.stat().st_size > _LARGEST):
        mistakes.fail(said, f"{file} is no file, or larger than {_LARGEST} bytes", "a recipe, a TOML file")
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError:
        near = nearest(path.name, [found.name for found in path.parent.glob("*.toml")])
        way = f" (reached through {' → '.join(seen)})" if len(seen) > 1 else ""
        mistakes.fail(said, f"no such file: {file}{way}" if seen else "no such file", nearest=str(path.parent / near) if near else "")
    except IsADirectoryError:
        near = str(path / "recipe.toml") if (path / "recipe.toml").is_file() else ""
        mistakes.fail(said, f"{file} is a folder" if seen else "is a folder", "a recipe, a TOML file", nearest=near)
    except OSError as error:
        mistakes.fail(said, f"cannot read {file}: {error.strerror}" if seen else f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        place = Place(file=file, line=error.object[: error.start].count(b"\n") + 1, key="")
        mistakes.fail(place, f"not UTF-8 (byte 0x{error.object[error.start]:02x})", "a text file in UTF-8")
    try:
        data, places = tomllib.loads(text), locate(text)
        if max(map(len, places), default=0) > _DEEPEST:
            raise RecursionError(f"tables within each other, more than {_DEEPEST} deep")
    except (ValueError, RecursionError) as error:
        at = _AT.search(str(error))
        line, column = (int(at[1]), f", column {at[2]}") if at and at[1] else (text.count("\n") + 1, "")
        mistakes.fail(Place(file=file, line=line, key=""), f"not TOML: {_AT.sub('', str(error))}{column}", "a TOML file")
    return Document(file, data, {path: Place(file=file, line=line, key=dotted(path)) for path, line in places.items()})


def _check_formats(layers: Sequence[Document], mistakes: Mistakes) -> None:
    """A file of another format cannot be read at all, so nothing else is said then."""
    expected, stated = f"format = {FORMAT}", [layer for layer in layers if "format" in layer.data]
    for layer in stated:
        written, place = layer.data["format"], layer.place("format")
        if type(written) is not int:
            mistakes.add(place, f"{show(written)} has the wrong type", expected)
        elif written > FORMAT:
            mistakes.add(place, f"format {written} is newer than this ibllm can read", expected, hint="upgrade ibllm")
        elif written < 1:
            mistakes.add(place, f"there is no format {written}", expected)
    mistakes.throw()
    if not stated:
        mistakes.add(layers[0].place("format"), "missing", expected)


def _overrides(file: str, sets: Iterable[str], mistakes: Mistakes) -> Document:
    """All ``KEY=VALUE`` as one document, so that their order does not matter; of one key given twice the last counts."""
    document, found = Document(file=file), list[tuple[tuple[str, ...], str, Place]]()
    for text in sets:
        place, split = Place(file=f"--set {text}", line=0, key=""), split_key(text)
        if split is None:
            mistakes.add(place, "cannot be read", "KEY=VALUE with a dotted KEY, e.g. --set stages.joint.steps=40")
        elif split[0][0] in OF_FILES:
            mistakes.add(place, f"{split[0][0]} belongs into a file", "any other key")
        else:
            found.append((*split, place))
    for path, value, place in sorted(found, key=lambda one: len(one[0])):  # a table first, then what is said of its keys
        document.put(path, _value(value), place)
    return document


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _overlay(old: dict[str, Any], new: dict[str, Any], path: Path, base: Document, upper: Document, mistakes: Mistakes) -> None:
    """Lays a table of `upper` over that of `base`, key by key; a table whose ``use`` changes is replaced whole."""
    for key, value in new.items():
        here, before = (*path, key), old.get(key)
        if value is False and _removable(here) and key not in old:
            known = [name for name, table in old.items() if len(here) > 2 or isinstance(table, dict)]
            mistakes.add(upper.place(*here), "there is nothing to remove", listing(known), nearest=nearest(key, known))
            continue
        table = isinstance(value, dict)
        if not (table and isinstance(before, dict) and value.get("use", before.get("use")) == before.get("use")):
            old[key] = {} if table else value
            kept = {at: place for at, place in base.places.items() if at[: len(here)] != here}
            said = {at: place for at, place in upper.places.items() if at[: len(here)] == here}
            base.places = kept | {here: upper.place(*here)} | said  # a key of an inline table has no place of its own: that of its table
        if table:
            _overlay(old[key], value, here, base, upper, mistakes)


def _removable(path: Path) -> bool:
    """Whether ``path = false`` means "take it away"."""
    if len(path) == 2:
        return path[0] in REMOVABLE and path != ("model", "width")
    return path[0] == "stages" and (path[2:] == ("perturb",) or (len(path) == 4 and path[2] == "losses"))


def _remove(document: Document) -> None:
    """Takes away what is ``false``, and every mention of it: a loss in the stages, a metric in their validation, a part in `train`."""
    gone = {kind: _take(document.data.get(kind)) for kind in REMOVABLE}
    _forget(document.data, "order", gone["stages"])
    stages = document.data.get("stages")
    for stage in stages.values() if isinstance(stages, dict) else ():
        if isinstance(stage, dict):
            _forget(stage, "losses", gone["losses"] | _take(stage.get("losses")))
            _forget(stage, "train", gone["model"], within=True)
            _forget(stage.get("validate"), "metrics", gone["metrics"])
            if stage.get("perturb") is False:
                del stage["perturb"]


def _take(table: Any) -> set[str]:
    names = {name for name, value in table.items() if value is False and name != "width"} if isinstance(table, dict) else set()
    for name in names:
        del table[name]
    return names


def _forget(table: Any, key: str, names: set[str], within: bool = False) -> None:
    """`within`: ``NAME.…`` too."""
    held = table.get(key) if isinstance(table, dict) else None
    if isinstance(held, list):
        table[key] = [name for name in held if not (isinstance(name, str) and (name.partition(".")[0] if within else name) in names)]
    elif isinstance(held, dict):
        table[key] = {name: value for name, value in held.items() if name not in names}


def to_toml(data: Mapping[str, Any]) -> str:
    """Merged tables as TOML text, a function of their content alone (key order within a table kept)."""
    ranked = sorted(data, key=lambda key: _ORDER.index(key) if key in _ORDER else len(_ORDER))
    return tomlkit.dumps(_filled(tomlkit.document(), {key: data[key] for key in ranked}, 0))


def _filled(into: Any, table: Mapping[str, Any], depth: int) -> Any:
    """What stands in one line first, then tables with headers, as TOML's scopes ask for; else in the order given: losses add up in theirs."""
    headed = {key: isinstance(of, Mapping) and (depth < 2 or "use" in of or len(str(of)) > WIDEST) for key, of in table.items()}
    for key in sorted(table, key=headed.__getitem__):
        value = _filled(tomlkit.table(), table[key], depth + 1) if headed[key] else table[key]
        if isinstance(value, list):
            value = tomlkit.array()
            value.extend(table[key])
        elif isinstance(value, Mapping) and not headed[key]:
            value = tomlkit.inline_table()
            value.update(table[key])
        into.add(key, value)
    return into
