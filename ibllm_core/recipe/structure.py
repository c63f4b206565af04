"""Plain data → attrs classes, strictly, with every flaw and its key path. Torch-free.

Nothing is turned into another type: ``3.7`` is no integer, ``true`` no number, ``"12"`` no integer, a string no array; an integer is a number.
"""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import attrs

from ..errors import nearest
from ..host.options import Config, OptionError
from .locate import Path
from .words import describe, is_config, is_mapping, keys, listing, show, types_of, written

C = TypeVar("C", bound=Config)
#: Key path, text and kind of an option that names a file → where that is.
Located = Callable[[Path, str, str], str]


@attrs.frozen
class Flaw:
    """One thing wrong with a table: its key path inside the table, what is wrong, what was expected, the nearest known key."""

    path: Path
    what: str
    expected: str = ""
    nearest: str = ""


def structure(cls: type[C], table: Mapping[str, Any], also: Iterable[str] = (), located: Located | None = None) -> C | list[Flaw]:
    """An instance of `cls`, or everything that keeps the table from being one; `also` are keys that others read, for suggestions."""
    reader = _Reader(located)
    made: C = reader.table(cls, table, (), tuple(also))
    return reader.flaws or made


@attrs.define
class _Reader:
    """Reads values one after the other; what is wrong gathers in `flaws`."""

    located: Located | None
    flaws: list[Flaw] = attrs.field(factory=list)

    def table(self, cls: type[Config], table: Mapping[str, Any], path: Path, also: tuple[str, ...] = ()) -> Any:
        """An instance of a class; None once there are flaws. Ranges are checked field by field: the class itself would stop at the first."""
        known, hints, before, values = keys(cls), types_of(cls), len(self.flaws), {}
        for key, field in known.items():
            wanted, here = hints[field.name], (*path, key)
            if key in table:
                values[field.alias or field.name] = self.field(field, wanted, table[key], here)
            elif field.default is attrs.NOTHING:
                self.flaws.append(Flaw(here, "missing", _expected(wanted, field)))
        for extra in sorted(set(table) - set(known)):
            names = [*known, *also]
            self.flaws.append(Flaw((*path, extra), "unknown key", listing(sorted(names)), nearest(extra, names)))
        if len(self.flaws) > before:
            return None
        try:
            return cls(**values)
        except Exception as error:
            self.flaws.append(_own_check(cls, error, path))
            return None

    def field(self, field: attrs.Attribute[Any], wanted: Any, value: Any, path: Path) -> Any:
        before = len(self.flaws)
        try:
            done = self.value(wanted, value, path, field)
            if field.validator is not None and len(self.flaws) == before:
                field.validator(None, field, done)
            return done
        except Exception as error:
            self.flaws.append(_out_of_range(error, path) if isinstance(error, OptionError) else Flaw(path, str(error)))
            return None

    def value(self, of: Any, value: Any, path: Path, field: attrs.Attribute[Any]) -> Any:
        """A value of a type; TOML has no null, so None is only ever a default."""
        origin, inside = typing.get_origin(of), typing.get_args(of)
        if not _fits(value, of):
            self.flaws.append(Flaw(path, f"{show(value)} has the wrong type", _expected(of, field)))
            return None
        if origin in _UNIONS:
            return self.value(next(one for one in inside if _fits(value, one)), value, path, field)
        if of is float:
            if not math.isfinite(value):
                self.flaws.append(_out_of_range(OptionError("", value, "a finite number"), path))
            return float(value)
        if origin in (tuple, list):
            wanted = inside if len(inside) == len(value) and ... not in inside else [inside[0]] * len(value)
            return origin(self.value(one, member, (*path, i), field) for i, (one, member) in enumerate(zip(wanted, value, strict=True)))
        if is_mapping(of):
            return {key: self.value(inside[1], member, (*path, key), field) for key, member in value.items()}
        if is_config(of):
            return self.table(of, value, path)
        if of is str and self.located and (kind := field.metadata.get("path")):
            return self.located(path, value, kind)
        return value if of in (int, bool, str, Any, type(None)) else of(value)  # an Enum, a Path


_UNIONS = (types.UnionType, typing.Union)


def _fits(value: Any, of: Any) -> bool:
    """Whether a value's TOML type is that of a type, looked at from outside."""
    origin, inside = typing.get_origin(of), typing.get_args(of)
    if origin in _UNIONS:
        return any(_fits(value, one) for one in inside)
    if value is None or of is type(None):
        return value is None and of is type(None)
    if origin in (tuple, list):
        return isinstance(value, list | tuple) and (origin is list or ... in inside or len(value) == len(inside))
    if is_mapping(of) or is_config(of):
        return isinstance(value, Mapping)
    return type(value) is of or (of is float and type(value) is int) or of not in (int, float, bool, str)


def _expected(of: Any, field: attrs.Attribute[Any]) -> str:
    return ", ".join(text for text in (describe(of), field.metadata.get("range", "")) if text)


def _out_of_range(error: OptionError, path: Path) -> Flaw:
    choices = re.findall(r"'([^']*)'", error.expected)
    wrong = [value for value in (error.value if isinstance(error.value, tuple) else (error.value,)) if value not in choices]
    what = "is not known here" if choices else "is out of range"
    return Flaw(path, f"{written(error.value)} {what}", error.expected, nearest(wrong[0], choices) if choices else "")


def _own_check(cls: type[Config], error: BaseException, path: Path) -> Flaw:
    """The failure of a class's own check; a message that starts ``option = value: `` is told at that option."""
    key, equals, rest = str(error).partition(" = ")
    if equals and key in keys(cls):
        value, _, expected = rest.partition(": expected ")
        return Flaw((*path, key), f"{value} is refused", expected)
    return Flaw(path, str(error))
