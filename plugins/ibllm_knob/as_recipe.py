"""What was turned in a run, put into its recipe as schedules."""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from ibllm import knobs
from ibllm.course import Course, Place, is_number, value_at
from ibllm.knobs import Knob
from ibllm.opening import load_run
from ibllm_core.errors import Notice, UserError
from ibllm_core.recipe.document import Document, to_toml
from ibllm_core.recipe.locate import Place as Where
from ibllm_core.recipe.locate import dotted, split_key
from ibllm_core.recipe.schema import Recipe
from ibllm_core.runs.directory import RunDirectory

#: More points than that are told.
_MANY = 50


def as_recipe(run: Path) -> str:
    """The recipe of a run as TOML, in which each number that was turned follows a piecewise schedule over the run's steps: it trains what the run trained.

    Stages are counted with the steps that the recipe gives them. Raises `UserError` where nothing was turned, or there is no such run.
    """
    directory = RunDirectory(run)
    recipe, turned = load_run(directory), [knob for knob in knobs.recorded(run) if knob.stage]
    if not turned:
        raise UserError(f"{run}: nothing was turned yet")
    document = Document(file=str(directory.recipe), data=tomllib.loads(recipe.source))
    paths = {path: dotted(path) for knob in turned for text in knob.set for path, _ in [_split(text)]}
    for path, key in paths.items():
        value = _course(recipe, turned, key, path[1] if path[0] == "stages" else "")
        document.put(path, value, Where(file=str(run), line=0, key=key))
    return f"# The recipe of {run} with what was turned while it trained.\n{to_toml(document.data)}"


def _split(text: str) -> tuple[tuple[str, ...], str]:
    found = split_key(text)
    if found is None:
        raise UserError(f"{text!r} cannot be read: expected KEY=VALUE")
    return found


def _course(recipe: Recipe, turned: Sequence[Knob], key: str, only: str) -> Any:
    """The values of a key over the run, or over the one stage that it belongs to, as a schedule; the last one where it is no number."""
    at: list[int] = []
    values: list[Any] = []
    stages = [stage for stage in recipe.running() if only in ("", stage.name)]
    start = 0
    for stage in stages:
        for begin, end, now in _stretches(recipe, turned, stage.name):
            place = knobs.movable(now)[key].place
            found = _values(now, stage.name, place, begin, end)
            at += [start + begin + k for k in range(len(found))]
            values += found
        start += stage.steps
    changes = [next(group) for _, group in groupby(zip(at, values, strict=True), key=lambda pair: pair[1])]
    if not is_number(values[-1]):
        warnings.warn(Notice(f"{key} is no number and follows no schedule: what it was turned to last is written"), stacklevel=2)
        return values[-1]
    if len(changes) == 1:
        return values[-1]
    if len(changes) > _MANY:
        warnings.warn(Notice(f"{key} followed a schedule: its {len(changes)} values are written one by one"), stacklevel=2)
    whole = {} if only else {"of_run": True}
    return {"use": "piecewise", "at": [step for step, _ in changes], "values": [float(value) for _, value in changes], **whole}


def _stretches(recipe: Recipe, turned: Sequence[Knob], stage: str) -> list[tuple[int, int, Recipe]]:
    """Where a stage goes by one recipe: its first step, the step after its last, and the recipe."""
    order = [one.name for one in recipe.running()]
    before = [knob for knob in turned if order.index(knob.stage) < order.index(stage)]
    within = [knob for knob in turned if knob.stage == stage]
    steps = recipe.stages[stage].steps
    ends = sorted({0, *(knob.stage_step for knob in within if knob.stage_step < steps), steps})
    found = []
    for begin, end in pairwise(ends):
        sets = [text for knob in (*before, *(one for one in within if one.stage_step <= begin)) for text in knob.set]
        found.append((begin, end, knobs.reread(recipe, sets) if sets else recipe))
    return found


def _values(recipe: Recipe, stage: str, place: Place, begin: int, end: int) -> list[Any]:
    """A number's values from one step to another; one alone where it follows no schedule."""
    course = Course(recipe, recipe.stages[stage])
    if place not in course.numbers:
        return [value_at(recipe, place)]
    return [value_at(course.at(step), place) for step in range(begin, end)]
