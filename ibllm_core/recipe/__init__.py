"""TOML files become a checked, resolved `Recipe`. Torch-free; a module is imported when something of it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .mistakes import Mistake, RecipeErrors
    from .reading import load
    from .resolve import resolved
    from .schema import Recipe

__all__ = ["Mistake", "Recipe", "RecipeErrors", "load", "resolved"]

_HOMES = {"Mistake": "mistakes", "RecipeErrors": "mistakes", "load": "reading", "resolved": "resolve", "Recipe": "schema"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
