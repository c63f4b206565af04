"""Where a run stands and what its numbers are now. Torch-free."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from ibllm import knobs
from ibllm.course import Course, value_at
from ibllm.knobs import Knob, Movable
from ibllm.opening import load_run
from ibllm.resolved import schedule_table
from ibllm_core.recipe.locate import Scheduled
from ibllm_core.recipe.schema import Recipe
from ibllm_core.recipe.words import written
from ibllm_core.runs.directory import LOCK, RunDirectory, read_json


@attrs.frozen(kw_only=True)
class Number:
    """A number that may be turned: its key, its value now, its range, what it follows, what it means."""

    key: str
    now: Any
    range: str
    follows: str
    help: str


@attrs.frozen(kw_only=True)
class State:
    """A run's numbers at the last step that it has logged.

    Attributes:
        trains: whether a process of this machine trains in it.
        step, stage: iterations over all stages, and the stage.
        numbers: what may be turned, but for stages that are over.
        turned: what was.
        waiting: what is asked for and not taken up.
    """

    path: Path
    trains: bool
    step: int
    stage: str
    numbers: Sequence[Number]
    turned: Sequence[Knob]
    waiting: Sequence[str]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "run": str(self.path),
            "trains": self.trains,
            "step": self.step,
            "stage": self.stage,
            "numbers": {one.key: {"now": one.now, "range": one.range, "follows": one.follows} for one in self.numbers},
            "turned": [attrs.asdict(knob) for knob in self.turned],
            "waiting": list(self.waiting),
        }


def state(run: Path) -> State:
    """Raises `UserError` where there is no such run."""
    directory = RunDirectory(run)
    recipe, info = load_run(directory), directory.info()
    step, stage, within = knobs.step_of(run)
    stage = stage or recipe.running()[0].name
    turned = knobs.recorded(run)
    sets = [text for knob in turned if knob.step <= step for text in knob.set]
    recipe = knobs.reread(recipe, sets) if sets else recipe
    over = [("stages", str(one.get("name"))) for one in info.get("stages", [])]
    now = Course(recipe, recipe.stages[stage]).at(within)
    found = [_number(one, recipe, now) for one in knobs.movable(recipe).values() if one.place[:2] not in over]
    waiting = [", ".join(one["set"]) + (f" (at step {one['at']})" if one.get("at") else "") for one in knobs.asked(run)]
    return State(path=run, trains=_trains(directory), step=step, stage=stage, numbers=found, turned=turned, waiting=waiting)


def _number(one: Movable, recipe: Recipe, now: Recipe) -> Number:
    follows = written(schedule_table(one.value)) if isinstance(one.value, Scheduled) else ""
    value = value_at(now, one.place)
    value = float(value) if isinstance(value, float) else value
    return Number(key=one.key, now=value, range=one.range, follows=follows, help=str(one.option.metadata.get("help", "")))


def _trains(directory: RunDirectory) -> bool:
    """Whether the process that holds the directory lives; of another machine's that is taken for granted."""
    import socket

    held = read_json(directory / f"{LOCK}.json") or {}
    if not held:
        return False
    if held.get("host") != socket.gethostname():
        return True
    try:
        os.kill(int(held["pid"]), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, KeyError, ValueError, TypeError):
        return True
    return True
