"""What a class says of its options and tables; types and values in words; plain data → such classes, with every flaw. Torch-free, quick to import.

Nothing is turned into another type: ``3.7`` is no integer, ``true`` no number, ``"12"`` no integer, a string no array; an integer is a number.
"""

from __future__ import annotations

import functools
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

C = TypeVar("C", bound=Config)
#: Key path, text and kind of an option that names a file → where that is.
Located = Callable[[Path, str, str], str]
#: Key path, table, type and the option's check → the number that follows the schedule of the table; None where its mistakes are told.
Follows = Callable[[Path, Mapping[str, Any], type, Callable[[Any], None]], Any]

_SCALARS: Mapping[Any, str] = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


def keys(cls: type[Config]) -> dict[str, attrs.Attribute[Any]]:
    """Key in a recipe → the option's field; fields that hold a `Section` of the recipe are none."""
    fields = (field for field in attrs.fields(cls) if field.init and "section" not in field.metadata)
    return {field.metadata.get("key") or field.name: field for field in fields}


def _types_of(cls: Any) -> Mapping[str, Any]:
    hints = typing.get_type_hints(cls)
    return hints | {field.name: field.metadata["written"] for field in attrs.fields(cls) if "written" in field.metadata}


#: Field → its type as it is written in a recipe.
types_of: Callable[[Any], Mapping[str, Any]] = functools.cache(_types_of)


@attrs.frozen(kw_only=True)
class Section:
    """A table of a recipe that is no option: the field of a class that holds what it says.

    Attributes:
        name, help: the field and, unless `spread`, the table's key; what it is for.
        of: the class of the field's value, or of each of its values.
        kind: the kind of the component that it names with ``use``; `PART` for the kind that it is called by.
        named: it is a table of tables, each called by a name.
        names: the names there may be; empty for any.
        removable: ``NAME = false`` takes a table away that another file gave.
        required: a recipe has it.
        optional: None where nothing is said.
        spread: its keys stand in the table of the class that has the field, among that class's options.
        otherwise: the component where a recipe names none.
        fills: it is taken where ``[FILLS.NAME]`` says nothing of its own.
        implied: left out of `ibllm.resolved` where it is this component at its defaults: it is younger than runs whose keys shall stay.
    """

    name: str
    of: type
    help: str
    kind: str = ""
    named: bool = False
    names: tuple[str, ...] = ()
    removable: bool = False
    required: bool = False
    optional: bool = False
    spread: bool = False
    otherwise: str = ""
    fills: str = ""
    implied: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys in the holding table that are the section's; a component's options are not known beforehand."""
        return (self.name,) if not self.spread else self.names if self.named else () if self.kind else tuple(keys(self.of))


#: Of a section whose components are of the kinds that they are called by.
PART = "part"


def section(default: Any = None, help: str = "", **facts: Any) -> Any:
    """Declares a field that holds a table; `facts` are attributes of `Section`. In a recipe that is still being read, what could not be read is None."""
    metadata = {"section": {"help": help, **facts}}
    return attrs.field(factory=dict, metadata=metadata) if default is dict else attrs.field(default=default, metadata=metadata)


def derived(**arguments: Any) -> Any:
    """Declares a field that no key of a recipe fills."""
    return attrs.field(metadata={"section": None}, **arguments)


def with_facts(declared: Any, **facts: Any) -> Any:
    """An option with more to say: ``written``, its type in a recipe where the field has another; ``unresolved``, it makes no difference to a run."""
    declared.metadata.update(facts)
    return declared


def sections(cls: Any) -> tuple[Section, ...]:
    """The tables that a class holds, in order."""
    declared = {field.name: facts for field in attrs.fields(cls) if (facts := field.metadata.get("section")) is not None}
    found, types = [], types_of(cls) if declared else {}
    for name, facts in declared.items():
        named = is_mapping(types[name])
        found.append(Section(name=name, of=typing.get_args(types[name])[1] if named else types[name], named=named, **facts))
    return tuple(found)


def describe(of: Any) -> str:
    """A type: ``an integer``, ``an array of strings``, ``a number or a table { from, to, over }``."""
    origin, inside = typing.get_origin(of), typing.get_args(of)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(dict.fromkeys(describe(one) for one in inside if one is not type(None)))
    if origin in (tuple, list):
        members = " or ".join(dict.fromkeys(_plural(describe(one)) for one in inside if one is not Ellipsis))
        return f"an array of {members}" if origin is list or Ellipsis in inside else f"an array of {len(inside)} {members}"
    if is_config(of):
        return "a table { " + ", ".join(keys(of)) + " }"
    if is_mapping(of):
        return f"a table, each value {describe(inside[1])}"
    return _SCALARS[of] if of in _SCALARS else str(getattr(of, "__name__", of))


def is_config(of: Any) -> bool:
    return isinstance(of, type) and issubclass(of, Config)


def is_mapping(of: Any) -> bool:
    origin = typing.get_origin(of)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _plural(words: str) -> str:
    head, *rest = words.removeprefix("an ").removeprefix("a ").split(" ", 1)
    return " ".join([head if head == "true" else f"{head}s", *rest])


def show(value: object) -> str:
    """A value with its type: ``3.7 (a float)``, ``"gauss" (a string)``, ``an array``."""
    if isinstance(value, bool):
        kind = "a boolean"
    elif isinstance(value, int | float):
        kind = "an integer" if isinstance(value, int) else "a float"
    elif isinstance(value, str):
        kind, value = "a string", value if len(value) <= 40 else f"{value[:37]}…"
    else:
        return "an array" if isinstance(value, list | tuple) else "a table" if isinstance(value, Mapping) else f"{value} (a date or time)"
    return f"{written(value)} ({kind})"


def written(value: object) -> str:
    """A value as a recipe would write it, ``["a", "b"]``; a component as ``lstm { depth = 2, width = 128 }``; None as ``none``."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | list | frozenset):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, Config):
        value = {key: getattr(value, field.name) for key, field in keys(type(value)).items()}
    if not isinstance(value, Mapping):
        return str(value)
    inside = ", ".join(f"{key} = {written(member)}" for key, member in value.items() if key != "use")
    table = f"{{ {inside} }}" if inside else ""
    return f"{value['use']} {table}".rstrip() if "use" in value else table or "{}"


def listing(names: Iterable[str]) -> str:
    """``one of a, b, c``; ``a`` when there is but one; empty when there is none."""
    known = list(names)
    return "one of " + ", ".join(known) if len(known) > 1 else "".join(known)


def article(kind: str) -> str:
    """A kind with its article: ``an image_decoder``."""
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


@attrs.frozen
class Flaw:
    """One thing wrong with a table: its key path inside the table, what is wrong (empty: it is told), what was expected, the nearest known key."""

    path: Path
    what: str
    expected: str = ""
    nearest: str = ""


def structure(
    cls: type[C], table: Mapping[str, Any], also: Iterable[str] = (), located: Located | None = None, follows: Follows | None = None
) -> C | list[Flaw]:
    """An instance of `cls`, or everything that keeps the table from being one; `also` are keys that others read, for suggestions."""
    reader = _Reader(located, follows)
    made: C = reader.table(cls, table, (), tuple(also))
    return reader.flaws or made


@attrs.define
class _Reader:
    """Reads values one after the other; what is wrong gathers in `flaws`."""

    located: Located | None
    follows: Follows | None
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
            number = next((one for one in (float, int) if one in (of, *inside)), None)
            if number and origin in (None, *_UNIONS) and self.follows and isinstance(value, Mapping) and field.metadata.get("live"):
                found = self.follows(path, value, number, lambda one: field.validator and field.validator(None, field, one))
                self.flaws += [Flaw(path, "")] if found is None else []
                return found
            fixed = ": it is read once, when the run is built, and follows no schedule" if number and isinstance(value, Mapping) else ""
            self.flaws.append(Flaw(path, f"{show(value)} has the wrong type{fixed}", _expected(of, field)))
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
    also = " or a schedule" if field.metadata.get("live") and of in (int, float) else ""
    return ", ".join(text for text in (describe(of) + also, field.metadata.get("range", "")) if text)


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
