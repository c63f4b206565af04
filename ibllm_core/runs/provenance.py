"""What a run records of its components: where they came from, and what their figures mean. Torch-free."""

from __future__ import annotations

from typing import Any

import attrs

from ..host.manager import manager
from ..host.options import DatasetConfig, MetricConfig
from ..recipe.schema import Recipe


def provenance(recipe: Recipe) -> dict[str, dict[str, str]]:
    """Key path → component, distribution and version, for run.json and model.json."""
    found = {path: {"component": str(c), "distribution": c.distribution, "version": c.version} for path, c in recipe.components().items()}
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
