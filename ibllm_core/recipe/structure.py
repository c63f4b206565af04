"""Plain data → attrs classes, strictly, with every flaw and its key path. Torch-free.

cattrs walks the classes and gathers the exceptions; what it would coerce (``3.7`` → 3, ``true`` → 1, ``"12"`` → 12, a string
taken for a sequence) is refused by the hooks here.
"""

from __future__ import annotations

import functools
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, Union, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override

from ..errors import nearest
from ..host.options import Config, OptionError
from .locate import Path
from .mistakes import listing


@attrs.frozen
class Flaw:
    """One thing wrong with a table: its key path inside the table, what is wrong, what was expected, the nearest known key."""

    path: Path
    what: str
    expected: str = ""
    nearest: str = ""


class WrongType(ValueError):
    """A value of another type than the option's."""

    def __init__(self, value: object, expected: str) -> None:
        super().__init__(f"{show(value)}: expected {expected}")
        self.value, self.expected = value, expected


C = TypeVar("C", bound=Config)


def structure(cls: type[C], table: Mapping[str, Any], also: Iterable[str] = ()) -> C | list[Flaw]:
    """An instance of `cls`, or everything that keeps the table from being one.

    Args:
        also: keys that the table may have besides, read by others; for "expected" and "did you mean".
    """
    try:
        return _converter().structure(table, cls)
    except ClassValidationError as error:
        return list(_flaws(error, (), tuple(also)))


def keys(cls: type[Config]) -> dict[str, attrs.Attribute[Any]]:
    """Key in a recipe → the field it fills."""
    return {field.metadata.get("key") or field.name: field for field in attrs.fields(cls) if field.init}


def show(value: object) -> str:
    """A value as a recipe would write it, with its type: ``3.7 (a float)``."""
    if isinstance(value, bool):
        return f"{str(value).lower()} (a boolean)"
    if isinstance(value, int | float):
        return f"{value} ({'an integer' if isinstance(value, int) else 'a float'})"
    if isinstance(value, str):
        return f'"{value}" (a string)' if len(value) <= 40 else f'"{value[:37]}…" (a string)'
    if isinstance(value, list | tuple):
        return "an array"
    return "a table" if isinstance(value, Mapping) else f"{value} (a date or time)"


def describe(of: Any) -> str:
    """A type in words: ``an integer``, ``an array of strings``, ``a number or a table { from, to, over }``."""
    if of in _WORDS:
        return _WORDS[of]
    arguments = get_args(of)
    if _is_union(of):
        return " or ".join(describe(one) for one in arguments if one is not type(None))
    if _origin(of) is tuple:
        if len(arguments) == 2 and arguments[1] is ...:
            return f"an array of {_plural(describe(arguments[0]))}"
        return f"an array of {len(arguments)}: " + ", ".join(map(describe, arguments))
    if isinstance(of, type) and issubclass(of, Config):
        return "a table { " + ", ".join(keys(of)) + " }"
    return f"a table, each value {describe(arguments[1])}" if len(arguments) == 2 else "a value"


_WORDS: dict[Any, str] = {int: "an integer", float: "a number", bool: "true or false", str: "a string", type(None): "nothing"}


def _plural(words: str) -> str:
    head, *rest = words.removeprefix("an ").removeprefix("a ").split(" ", 1)
    return " ".join([head if head == "true" else f"{head}s", *rest])


@functools.cache
def _converter() -> Converter:
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
    for scalar in (int, float, bool, str):
        converter.register_structure_hook(scalar, functools.partial(_scalar, scalar))
    converter.register_structure_hook_factory(lambda of: _origin(of) is tuple, lambda of: _tuple(converter, of))
    converter.register_structure_hook_factory(_is_union, lambda of: _union(converter, of))
    converter.register_structure_hook_factory(lambda of: _is_mapping(_origin(of)), lambda of: _table(converter, of))
    converter.register_structure_hook_factory(lambda of: isinstance(of, type) and issubclass(of, Config), lambda of: _class(converter, of))
    return converter


def _origin(of: Any) -> Any:
    return get_origin(of)


def _is_union(of: Any) -> bool:
    return _origin(of) in (Union, types.UnionType)


def _is_mapping(of: Any) -> bool:
    return isinstance(of, type) and issubclass(of, Mapping)


def _scalar(of: type, value: Any, _: object) -> Any:
    if of is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise OptionError("", value, "a finite number")
        return float(value)
    if type(value) is not of:
        raise WrongType(value, describe(of))
    return value


def _tuple(converter: Converter, of: Any) -> Callable[[Any, Any], tuple[Any, ...]]:
    arguments = get_args(of)
    repeated = len(arguments) == 2 and arguments[1] is ...

    def hook(value: Any, _: object) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or not (repeated or len(value) == len(arguments)):
            raise WrongType(value, describe(of))
        return tuple(_members(converter, enumerate(value), [arguments[0]] * len(value) if repeated else arguments).values())

    return hook


def _table(converter: Converter, of: Any) -> Callable[[Any, Any], dict[str, Any]]:
    member = get_args(of)[1]

    def hook(value: Any, _: object) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise WrongType(value, describe(of))
        return _members(converter, value.items(), [member] * len(value))

    return hook


def _members(converter: Converter, items: Iterable[tuple[Any, Any]], of: Iterable[Any]) -> dict[Any, Any]:
    """Each member structured; the flaws of all of them together, each under its index or key."""
    done, errors = {}, []
    for (index, value), wanted in zip(items, of, strict=True):
        try:
            done[index] = converter.structure(value, wanted)
        except Exception as error:
            error.add_note(IterableValidationNote(str(index), index, wanted))
            errors.append(error)
    if errors:
        raise IterableValidationError("members", errors, dict)
    return done


def _union(converter: Converter, of: Any) -> Callable[[Any, Any], Any]:
    """The member that fits the value's TOML type; TOML has no null, so None is only ever a default."""

    def hook(value: Any, _: object) -> Any:
        if value is None:
            return None
        for wanted in get_args(of):
            if _fits(value, wanted):
                return converter.structure(value, wanted)
        raise WrongType(value, describe(of))

    return hook


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(value, Mapping):
        return _is_mapping(_origin(wanted)) or (isinstance(wanted, type) and issubclass(wanted, Config))
    if isinstance(value, list | tuple):
        return _origin(wanted) is tuple
    return type(value) is wanted or (wanted is float and type(value) is int)


def _class(converter: Converter, cls: Any) -> Callable[[Any, Any], Any]:
    attrs.resolve_types(cls)
    overrides = {
        field.name: override(rename=field.metadata.get("key") or None, struct_hook=functools.partial(_field, converter, field))
        for field in attrs.fields(cls)
    }
    inner: Callable[[Any, Any], Any] = make_dict_structure_fn(cls, converter, **overrides)  # type: ignore[arg-type]

    def hook(value: Any, of: Any) -> Any:
        if not isinstance(value, Mapping):
            raise WrongType(value, describe(cls))
        return inner(value, of)

    return hook


def _field(converter: Converter, field: attrs.Attribute[Any], value: Any, _: object) -> Any:
    """A field's value, its range checked here, where cattrs still knows whose it is; the class would stop at the first."""
    done = converter.structure(value, typing.cast(Any, field.type))
    if field.validator is not None:
        field.validator(None, field, done)
    return done


def _flaws(error: BaseException, path: Path, also: tuple[str, ...], field: attrs.Attribute[Any] | None = None) -> Iterable[Flaw]:
    if isinstance(error, ClassValidationError):
        for inner in error.exceptions:
            yield from _class_flaws(error.cl, inner, path, also)
    elif isinstance(error, IterableValidationError):
        for inner in error.exceptions:
            index = next(note.index for note in inner.__notes__ if isinstance(note, IterableValidationNote))
            yield from _flaws(inner, (*path, index), (), field)
    elif isinstance(error, WrongType):
        bounds = field.metadata.get("range", "") if field is not None else ""
        expected = f"{error.expected}, {bounds}" if bounds else error.expected
        yield Flaw(path, f"{show(error.value)} has the wrong type", expected)
    elif isinstance(error, OptionError):
        choices = re.findall(r"'([^']*)'", error.expected)
        wrong = [value for value in (error.value if isinstance(error.value, tuple) else (error.value,)) if value not in choices]
        what = "is out of range" if not choices else "is not known here"
        yield Flaw(path, f"{_bare(error.value)} {what}", error.expected, nearest(wrong[0], choices) if choices else "")
    else:
        yield Flaw(path, str(error))


def _class_flaws(cls: type[Config], inner: BaseException, path: Path, also: tuple[str, ...]) -> Iterable[Flaw]:
    known = keys(cls)
    if isinstance(inner, ForbiddenExtraKeysError):
        for extra in sorted(inner.extra_fields):
            yield Flaw((*path, extra), "unknown key", listing(sorted([*known, *also])), nearest(extra, [*known, *also]))
        return
    note = next((note for note in getattr(inner, "__notes__", ()) if isinstance(note, AttributeValidationNote)), None)
    if note is None:
        yield _own_check(cls, inner, path)
        return
    key, field = next((key, field) for key, field in known.items() if field.name == note.name)
    if isinstance(inner, KeyError):
        bounds = field.metadata.get("range", "")
        yield Flaw((*path, key), "missing", describe(field.type) + (f", {bounds}" if bounds else ""))
    else:
        yield from _flaws(inner, (*path, key), (), field)


def _bare(value: object) -> str:
    """A value without its type: ``-3``, ``"gauss"``, ``["en", "xx"]``."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_bare, value)) + "]"
    return show(value).rsplit(" (", 1)[0]


def _own_check(cls: type[Config], error: BaseException, path: Path) -> Flaw:
    """The failure of a class's own check; a message that starts ``option = value: `` is told at that option."""
    key, equals, rest = str(error).partition(" = ")
    if equals and key in keys(cls):
        value, _, expected = rest.partition(": expected ")
        return Flaw((*path, key), f"{value} is refused", expected)
    return Flaw(path, str(error))
