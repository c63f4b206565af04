"""The options of a configuration class in words: for ``ibllm plugins show`` and for the documentation. Torch-free."""

from __future__ import annotations

import types
import typing
from typing import Any

import attrs

from ..host.options import Config

_WORDS = {int: "integer", float: "number", str: "string", bool: "true or false"}


@attrs.frozen
class OptionRow:
    """One option: its key in a recipe, its type in TOML's words, its default as TOML would write it, its range and its meaning."""

    key: str
    type: str
    default: str
    range: str
    help: str
    required: bool


def options_of(config: type[Config]) -> list[OptionRow]:
    """The options in the order in which the class declares them."""
    hints = typing.get_type_hints(config)
    return [_row(field, hints[field.name]) for field in attrs.fields(config)]


def _row(field: attrs.Attribute[Any], hint: object) -> OptionRow:
    default: Any = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # attrs types Factory as a function
        assert not default.takes_self, "option() offers factories without arguments only"
        default = default.factory()
    key = field.metadata.get("key") or field.name
    required = default is attrs.NOTHING
    return OptionRow(
        key,
        type_in_words(hint),
        "" if required else toml(default),
        field.metadata.get("range", ""),
        field.metadata.get("help", ""),
        required,
    )


def type_in_words(hint: object) -> str:
    """``int`` → integer, ``tuple[str, ...]`` → list of strings, ``float | Ramp`` → number or table."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(dict.fromkeys(type_in_words(argument) for argument in arguments if argument is not type(None)))
    if origin in (tuple, list):
        members = dict.fromkeys(type_in_words(argument) for argument in arguments if argument is not Ellipsis)
        length = "" if origin is list or Ellipsis in arguments else f"{len(arguments)} "
        return f"list of {length}{' or '.join(f'{member}s' for member in members)}"
    if isinstance(hint, type) and attrs.has(hint):
        return "table"
    return _WORDS.get(hint, "table" if origin is not None else str(hint))  # type: ignore[call-overload, no-any-return]


def toml(value: object) -> str:
    """A default as a recipe would write it; None, which no recipe can write, as ``none``."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | list | frozenset):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, Config):
        inner = (f"{field.metadata.get('key') or field.name} = {toml(getattr(value, field.name))}" for field in attrs.fields(type(value)))
        return f"{{ {', '.join(inner)} }}"
    return str(value)
