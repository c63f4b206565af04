"""Recipe files and overrides → one document. Torch-free."""

from __future__ import annotations

import os.path
import pathlib
import re
import tomllib
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import nearest
from ..host import packaged
from .document import Document, overlay, removals
from .locate import Path, dotted, locate, split_key
from .mistakes import Mistakes
from .schema import FORMAT, Place, Seeds
from .words import keys, show

#: Keys that no override may set.
OF_FILES = ("extends", "format")
_AT = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")


def read(path: str | os.PathLike[str], sets: Iterable[str], mistakes: Mistakes, over: Iterable[Document] = ()) -> Document:
    """The file, what it extends, the documents laid over it, and the overrides, as one document.

    Raises:
        RecipeErrors: at once where a file cannot be read; what else is wrong is added to `mistakes`.
    """
    file = os.fspath(path)
    layers = _chain(file, mistakes)
    document = Document(file=layers[0].file)
    _check_formats(layers, mistakes)
    for layer in (*reversed(layers), *over, _overrides(file, sets, mistakes)):
        _spread_seed(document, layer)
        overlay(document, layer, mistakes)
    removals(document)
    return document


def _check_formats(layers: Sequence[Document], mistakes: Mistakes) -> None:
    """A file of another format cannot be read at all, so nothing else is said then."""
    expected, stated = f"format = {FORMAT}", [layer for layer in layers if "format" in layer.data]
    for layer in stated:
        written, place = layer.data["format"], layer.place("format")
        if type(written) is not int:
            mistakes.add(place, f"{show(written)} has the wrong type", expected=expected)
        elif written > FORMAT:
            mistakes.add(place, f"format {written} is newer than this ibllm can read", expected=expected, hint="upgrade ibllm")
        elif written < 1:
            mistakes.add(place, f"there is no format {written}", expected=expected)
    mistakes.throw()
    if not stated:
        mistakes.add(layers[0].place("format"), "missing", expected=expected)


def _spread_seed(document: Document, layer: Document) -> None:
    """``seed = 3`` below ``seed.init = 4`` still holds for the other purposes."""
    seed = document.data.get("seed")
    if type(seed) is int and isinstance(layer.data.get("seed"), dict):
        document.data["seed"] = dict.fromkeys(keys(Seeds), seed)


def _chain(file: str, mistakes: Mistakes) -> list[Document]:
    """The file and its ancestors, the nearest first."""
    layers: list[Document] = []
    said = Place(file=file, line=0, key="")
    file = _asked(file, mistakes)
    while True:
        seen = [layer.file for layer in layers]
        if any(os.path.realpath(file) == os.path.realpath(earlier) for earlier in seen):
            mistakes.add(said, f"extends itself: {' → '.join([*seen, file])}", expected="a chain that ends")
            mistakes.throw()
        layer = _read_one(file, said, seen, mistakes)
        layers.append(layer)
        base = layer.data.pop("extends", None)
        if base is None:
            return layers
        said = layer.place("extends")
        if not isinstance(base, str):
            expected = "a string, the path of a recipe relative to this file or PACKAGE:RECIPE"
            mistakes.add(said, f"{show(base)} has the wrong type", expected=expected)
            mistakes.throw()
        file = _unpack(base, said, mistakes) if packaged.split(base) else os.path.normpath(os.path.join(os.path.dirname(file), base))


def _asked(file: str, mistakes: Mistakes) -> str:
    """The file that the user named: by its path, if there is one of that very name, or as ``package:recipe``."""
    return file if os.path.isfile(file) else _unpack(file, Place(file=file, line=0, key=""), mistakes)


def _unpack(file: str, said: Place, mistakes: Mistakes) -> str:
    """The file that ``package:recipe`` stands for; a path as it is."""
    if packaged.split(file) is None:
        return file
    try:
        return str(packaged.find("recipes", file).path)
    except packaged.NotPackaged as error:
        mistakes.add(said, error.what, expected=error.expected, nearest=error.nearest)
    mistakes.throw()
    raise AssertionError(file)


def read_file(file: str, mistakes: Mistakes) -> Document:
    """One TOML file, named like a recipe, with the places of its keys; `RecipeErrors` where it cannot be read."""
    return _read_one(_asked(file, mistakes), Place(file=file, line=0, key=""), (), mistakes)


def _read_one(file: str, said: Place, seen: Sequence[str], mistakes: Mistakes) -> Document:
    """One file. `said` is where its name stands, `seen` the files that lead to it."""
    where = Place(file=file, line=0, key="")
    text = ""
    try:
        text = pathlib.Path(file).read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        data = tomllib.loads(text)
    except FileNotFoundError:
        folder = pathlib.Path(file).parent
        near = nearest(pathlib.Path(file).name, [found.name for found in folder.glob("*.toml")] if folder.is_dir() else [])
        way = f" (reached through {' → '.join(seen)})" if len(seen) > 1 else ""
        mistakes.add(said, f"no such file: {file}{way}" if seen else "no such file", nearest=str(folder / near) if near else "")
    except IsADirectoryError:
        inside = pathlib.Path(file) / "recipe.toml"
        near = str(inside) if inside.is_file() else ""
        mistakes.add(said, f"{file} is a folder" if seen else "is a folder", expected="a recipe, a TOML file", nearest=near)
    except OSError as error:
        mistakes.add(said, f"cannot read {file}: {error.strerror}" if seen else f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        mistakes.add(
            Place(file=file, line=line, key=""), f"not UTF-8 (byte 0x{error.object[error.start]:02x})", expected="a text file in UTF-8"
        )
    except tomllib.TOMLDecodeError as error:
        mistakes.add(*_syntax(file, text, str(error)), expected="a TOML file")
    else:
        lines = locate(text)
        return Document(file, data, {path: Place(file=file, line=line, key=dotted(path)) for path, line in lines.items()})
    mistakes.throw()
    raise AssertionError(where)


def _syntax(file: str, text: str, message: str) -> tuple[Place, str]:
    found = _AT.search(message)
    line = int(found[1]) if found and found[1] else text.count("\n") + 1
    column = f", column {found[2]}" if found and found[2] else ""
    return Place(file=file, line=line, key=""), f"not TOML: {_AT.sub('', message)}{column}"


def _overrides(file: str, sets: Iterable[str], mistakes: Mistakes) -> Document:
    """All ``KEY=VALUE`` as one document, so that their order does not matter; of one key given twice the last counts."""
    document = Document(file=file)
    for text in sets:
        place = Place(file=f"--set {text}", line=0, key="")
        split = split_key(text)
        if split is None:
            mistakes.add(place, "cannot be read", expected="KEY=VALUE with a dotted KEY, e.g. --set stages.joint.steps=40")
        elif split[0][0] in OF_FILES:
            mistakes.add(place, f"{split[0][0]} belongs into a file", expected="any other key")
        else:
            put(document, split[0], _value(split[1]), place)
    return document


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def put(document: Document, path: tuple[str, ...], value: Any, place: Place) -> None:
    """Writes a value at a key path."""
    table = document.data
    for depth, step in enumerate(path[:-1], 1):
        if not isinstance(table.get(step), dict):
            table[step] = {}
        here: Path = path[:depth]
        document.places.setdefault(here, place)
        table = table[step]
    table[path[-1]] = value
    document.places[path] = place
