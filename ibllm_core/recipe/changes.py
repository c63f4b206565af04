"""What differs between two recipes' tables, and what of it a run may go on with. Torch-free."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from ..errors import UserError
from .locate import dotted
from .schema import Recipe
from .words import written

ABSENT = object()
Difference = tuple[tuple[str, ...], Any, Any]
#: No weight depends on these and on what is in them, nor on a stage's ``validate.metrics``.
FREE = ("metrics", "trackers", "evaluation.splits", "evaluation.items", "evaluation.after_stage", "evaluation.samples",
        "compute.device", "compute.threads")  # fmt: skip


def differing(a: Mapping[str, Any], b: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[Difference]:
    """(path, value in a, value in b) of each option that differs; a component that is added, removed or replaced is one."""
    for key in dict.fromkeys([*a, *b]):
        old, new, here = a.get(key, ABSENT), b.get(key, ABSENT), (*path, key)
        if isinstance(old, Mapping) and isinstance(new, Mapping) and old.get("use") == new.get("use"):
            yield from differing(old, new, here)
        elif old is ABSENT or new is ABSENT or old != new:
            yield here, old, new


def in_words(difference: Difference) -> str:
    """``key.path: a → b``"""
    path, old, new = difference
    if old is ABSENT or new is ABSENT:
        return f"{dotted(path)}: {'added' if old is ABSENT else 'removed'}: {written(new if old is ABSENT else old)}"
    return f"{dotted(path)}: {written(old)} → {written(new)}"


def changes(started: str, recipe: Recipe, where: str) -> list[str]:
    """What a run that was started with the recipe text `started`, in the directory `where`, goes on with otherwise.

    Raises:
        UserError: something that training depends on differs: all but `FREE`, or a metric whose figures decide in a stage.
    """
    plans = [attrs.evolve(stage.validate, metrics=()) for stage in recipe.running() if stage.validate is not None]
    deciding = {name for plan in plans for name in recipe.validated(plan)}
    found, tied = list(differing(tomllib.loads(started), tomllib.loads(recipe.source))), []
    for path, old, new in found:
        key = ".".join(path)
        free = any(f"{key}.".startswith(f"{name}.") for name in FREE) or (path[0] == "stages" and path[2:4] == ("validate", "metrics"))
        if not free or (path[0] == "metrics" and deciding & set(path[1:2] or deciding)):
            tied.append(in_words((path, old, new)) + (" (its figures decide in a stage)" if free else ""))
    if tied:
        may = f"only {', '.join(FREE)} and the metrics of validations may change, as no weight depends on them"
        raise UserError(f"{where} cannot go on with another training: {'; '.join(tied)}. When a run goes on, {may}")
    return [in_words(one) for one in found]
