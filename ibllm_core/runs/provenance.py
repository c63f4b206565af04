"""What a run records of where it comes from: its components, and what their figures mean; and with which changes it may go on. Torch-free."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

import attrs

from ..errors import UserError
from ..host.manager import manager
from ..host.options import DatasetConfig, MetricConfig
from ..recipe.locate import dotted
from ..recipe.schema import Recipe
from ..recipe.words import written

#: No weight depends on these and on what is in them, nor on a stage's ``validate.metrics``.
FREE = ("metrics", "trackers", "evaluation.splits", "evaluation.items", "evaluation.after_stage", "evaluation.samples",
        "compute.device", "compute.threads", "compute.workers", "compute.activation_checkpointing")  # fmt: skip


def provenance(recipe: Recipe, whole: bool = False) -> dict[str, dict[str, str]]:
    """Key path → component, distribution and version, and if `whole` what their options say of what they name, for run.json and model.json."""
    found = {path: {"component": str(c), "distribution": c.distribution, "version": c.version} for path, c in recipe.components().items()}
    for path, component in recipe.components().items() if whole else ():
        found[path] |= component.config.provenance()
    for name in recipe.plugins.hooks:
        origin = manager(recipe.plugins.block).plugin(name).origin
        found[f"plugins.hooks.{name}"] = {"component": name, "distribution": origin.distribution, "version": origin.version}
    return found


def meanings(recipe: Recipe) -> dict[str, Any]:
    """What the figures, splits and marks of a run mean, as its components say, by name and in the order in which they are shown: for run.json."""
    metrics = [metric.config for metric in recipe.metrics.values() if isinstance(metric.config, MetricConfig)]
    data = recipe.data.config if isinstance(recipe.data.config, DatasetConfig) else None
    figures = {figure.name: attrs.asdict(figure) for config in metrics for figure in config.figures()}
    marks = {mark.name: attrs.asdict(mark) for config in metrics for mark in config.marks()}
    for entry in (*figures.values(), *marks.values()):
        del entry["name"]
    splits, primary = (dict(data.splits()), data.primary_split()) if data else ({}, "")
    return {"figures": figures, "splits": splits, "marks": marks, "primary_split": primary}


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
