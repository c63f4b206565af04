"""What differs between two recipes once resolved, line by line. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .describe import toml
from .locate import dotted
from .resolve import resolved
from .schema import Recipe

_ABSENT = object()


def differences(before: Recipe, after: Recipe) -> list[str]:
    """``key.path: a → b`` for each option that differs; a component that is added, removed or replaced takes one line."""
    return list(_tables(resolved(before), resolved(after), ()))


def _tables(a: Mapping[str, Any], b: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    for key in dict.fromkeys([*a, *b]):
        old, new, here = a.get(key, _ABSENT), b.get(key, _ABSENT), (*path, key)
        if old is _ABSENT:
            yield f"{dotted(here)}: added: {show_value(new)}"
        elif new is _ABSENT:
            yield f"{dotted(here)}: removed: {show_value(old)}"
        elif isinstance(old, Mapping) and isinstance(new, Mapping) and old.get("use") == new.get("use"):
            yield from _tables(old, new, here)
        elif old != new:
            yield f"{dotted(here)}: {show_value(old)} → {show_value(new)}"


def show_value(value: Any) -> str:
    """A value as a recipe would write it; a component as its name and options: ``lstm { depth = 2, width = 128 }``."""
    if not isinstance(value, Mapping):
        return toml(value)
    inside = ", ".join(f"{key} = {show_value(member)}" for key, member in value.items() if key != "use")
    table = f"{{ {inside} }}" if inside else ""
    return f"{value['use']} {table}".rstrip() if "use" in value else table or "{}"
