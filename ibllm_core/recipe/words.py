"""Types, values and options in words: for messages, ``ibllm plugins show``, the documentation and differences. Torch-free, and quick to import."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from ..host.options import Config

_SCALARS: Mapping[Any, str] = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


def keys(cls: type[Config]) -> dict[str, attrs.Attribute[Any]]:
    """Key in a recipe → the option's field; fields that hold a section of the recipe (`ibllm_core.recipe.schema`) are none."""
    fields = (field for field in attrs.fields(cls) if field.init and "section" not in field.metadata)
    return {field.metadata.get("key") or field.name: field for field in fields}


def _types_of(cls: Any) -> Mapping[str, Any]:
    hints = typing.get_type_hints(cls)
    return hints | {field.name: field.metadata["written"] for field in attrs.fields(cls) if "written" in field.metadata}


#: Field → its type as it is written in a recipe.
types_of: Callable[[Any], Mapping[str, Any]] = functools.cache(_types_of)


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
