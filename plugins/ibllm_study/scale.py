"""A recipe made shorter or longer: every stage's steps, and what is counted in steps beside them. Torch-free."""

from __future__ import annotations

from typing import Any

import attrs

from ibllm.resolved import options, schedule_table
from ibllm_core.host.options import Config
from ibllm_core.recipe.document import Document
from ibllm_core.recipe.locate import Place, Scheduled
from ibllm_core.recipe.schema import Recipe, Stage


def scaled(recipe: Recipe, factor: float, place: Place) -> Document:
    """What to lay over a recipe so that its stages take `factor` times their steps.

    Validation, warm-up and schedules keep their share of a stage; what was at least one step stays at least one.
    """
    document = Document(file=place.file)
    if factor == 1:
        return document
    for number in recipe.scheduled:
        document.put(tuple(map(str, number.path)), _followed(number, factor), place)
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
    if any(getattr(schedule, name) for name in counted):
        shorter = _shorter(schedule, factor)
        table = {key: value for key, value in options(shorter).items() if value is not None}
        found.append((("schedule",), {"use": stage.schedule.use, **table}))
    return found


def _counted(config: Config) -> list[str]:
    """The options that are numbers of steps."""
    return [field.name for field in attrs.fields(type(config)) if field.metadata.get("unit") == "steps"]


def _shorter(config: Config, factor: float) -> Config:
    """A schedule's options with what is counted in steps scaled; of several steps each stays larger than the one before."""
    changed: dict[str, Any] = {}
    for name in _counted(config):
        steps = getattr(config, name)
        changed[name] = times(steps, factor) if isinstance(steps, int) else [times(step, factor) for step in steps]
        for k in range(1, len(changed[name])) if not isinstance(steps, int) else ():
            changed[name][k] = max(changed[name][k], changed[name][k - 1] + 1)
    return attrs.evolve(config, **{name: tuple(value) if isinstance(value, list) else value for name, value in changed.items()})


def _followed(number: Scheduled, factor: float) -> dict[str, Any]:
    schedule = attrs.evolve(number.schedule, config=_shorter(number.schedule.config, factor))
    other = type(number)(number)  # type: ignore[call-arg]  # a float or an int
    other.value, other.schedule, other.path = number.value, schedule, number.path
    return {key: value for key, value in schedule_table(other).items() if value is not None}
