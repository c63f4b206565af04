"""A recipe made shorter or longer: every stage's steps, and what is counted in steps beside them. Torch-free."""

from __future__ import annotations

from typing import Any

import attrs

from ibllm.resolved import options
from ibllm_core.host.options import Config
from ibllm_core.recipe.document import Document
from ibllm_core.recipe.locate import Place
from ibllm_core.recipe.schema import Ramp, Recipe, Stage, Weight


def scaled(recipe: Recipe, factor: float, place: Place) -> Document:
    """What to lay over a recipe so that its stages take `factor` times their steps.

    Validation, warm-up and ramps keep their share of a stage; what was at least one step stays at least one.
    """
    document = Document(file=place.file)
    if factor == 1:
        return document
    for name, loss in recipe.losses.items():
        if isinstance(loss.weight, Ramp):
            document.put(("losses", name, "weight"), _ramp(loss.weight, factor), place)
    for stage in recipe.stages.values():
        for path, value in _stage(stage, factor):
            document.put(("stages", stage.name, *path), value, place)
    return document


def times(steps: int, factor: float) -> int:
    """Steps scaled; never to nothing."""
    return max(1, round(steps * factor)) if steps > 0 else steps


def _stage(stage: Stage, factor: float) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = [(("steps",), times(stage.steps, factor))]
    if stage.validate is not None:
        found.append((("validate", "every"), times(stage.validate.every, factor)))
    schedule = stage.schedule.config
    counted = _counted(schedule)
    if any(getattr(schedule, name) > 0 for name in counted):
        shorter = attrs.evolve(schedule, **{name: times(getattr(schedule, name), factor) for name in counted})
        table = {key: value for key, value in options(shorter).items() if value is not None}
        found.append((("schedule",), {"use": stage.schedule.use, **table}))
    found += [(("losses", name), _ramp(weight, factor)) for name, weight in stage.losses.items() if isinstance(weight, Ramp)]
    return found


def _counted(config: Config) -> list[str]:
    """The options that are numbers of steps."""
    return [field.name for field in attrs.fields(type(config)) if field.metadata.get("unit") == "steps"]


def _ramp(weight: Weight, factor: float) -> dict[str, Any]:
    assert isinstance(weight, Ramp)
    return options(attrs.evolve(weight, over=times(weight.over, factor)))
