"""What really differs between two recipes. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ibllm.resolved import resolved
from ibllm_core.recipe.locate import dotted
from ibllm_core.recipe.schema import Recipe
from ibllm_core.recipe.words import written

_ABSENT = object()


def differences(before: Recipe, after: Recipe) -> list[str]:
    """``key.path: a → b`` for each option that differs; a component that is added, removed or replaced takes one line."""
    return list(_tables(resolved(before), resolved(after), ()))


def _tables(a: Mapping[str, Any], b: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    for key in dict.fromkeys([*a, *b]):
        old, new, here = a.get(key, _ABSENT), b.get(key, _ABSENT), (*path, key)
        if old is _ABSENT:
            yield f"{dotted(here)}: added: {written(new)}"
        elif new is _ABSENT:
            yield f"{dotted(here)}: removed: {written(old)}"
        elif isinstance(old, Mapping) and isinstance(new, Mapping) and old.get("use") == new.get("use"):
            yield from _tables(old, new, here)
        elif old != new:
            yield f"{dotted(here)}: {written(old)} → {written(new)}"
