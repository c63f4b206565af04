"""What a run may go on with otherwise than it was started. Torch-free."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

import attrs

from ..errors import UserError
from .locate import dotted
from .schema import Recipe
from .words import written

#: No weight depends on these and on what is in them, nor on a stage's ``validate.metrics``.
FREE = ("metrics", "trackers", "evaluation.splits", "evaluation.items", "evaluation.after_stage", "evaluation.samples",
        "compute.device", "compute.threads")  # fmt: skip


def changes(started: str, recipe: Recipe, where: str) -> list[str]:
    """What a run that was started with the recipe text `started`, in the directory `where`, goes on with: ``key = value``, one a change.

    Raises:
        UserError: something that training depends on differs: all but `FREE`, or a metric whose figures decide in a stage.
    """
    plans = [attrs.evolve(stage.validate, metrics=()) for stage in recipe.running() if stage.validate is not None]
    deciding = {name for plan in plans for name in recipe.validated(plan)}
    before, now = _flat(tomllib.loads(started)), _flat(tomllib.loads(recipe.source))
    found, tied = [], []
    for path in (path for path in {**before, **now} if path not in before or path not in now or before[path] != now[path]):
        free = any(path[: name.count(".") + 1] == tuple(name.split(".")) for name in FREE) or path[2:4] == ("validate", "metrics")
        decides = path[0] == "metrics" and path[1] in deciding
        found.append(f"{dotted(path)} = {written(now[path])}" if path in now else f"{dotted(path)} is taken away")
        tied += [found[-1] + " (its figures decide in a stage)" * decides] if decides or not free else []
    if tied:
        may = f"only {', '.join(FREE)} and the metrics of validations may change, as no weight depends on them"
        raise UserError(f"{where} cannot go on with another training: {'; '.join(tied)}. When a run goes on, {may}")
    return found


def _flat(tables: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for key, value in tables.items():
        found |= _flat(value, (*path, key)) if isinstance(value, Mapping) else {(*path, key): value}
    return found
