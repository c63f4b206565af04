"""With which changes of its recipe a run may go on: those that no weight depends on, which are told and kept."""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs

from ibllm import knobs
from ibllm_core.errors import UserError
from ibllm_core.host.entry_points import LISTENERS, block_of
from ibllm_core.recipe.locate import dotted
from ibllm_core.recipe.schema import Recipe
from ibllm_core.recipe.words import written
from ibllm_core.runs.directory import RunDirectory, write_text
from ibllm_core.runs.provenance import provenance
from ibllm_core.training.distributed import first_process
from ibllm_core.training.events import Listener, ModelBuilt, Prepared, RunStarted

#: No weight depends on these and on what is in them, nor on a stage's ``validate.metrics``.
FREE = ("metrics", "trackers", "evaluation.splits", "evaluation.items", "evaluation.after_stage", "evaluation.samples",
        "compute.device", "compute.threads", "compute.workers", "compute.activation_checkpointing")  # fmt: skip


class Changes(Listener):
    """Refuses to go on with another training; tells of other changes, and writes the recipe that the run goes on with into its directory."""

    everywhere = True

    def on_run_started(self, event: RunStarted) -> None:
        if (turned := _cannot_turn(event.recipe, event.run_directory)) is not None:
            event.against.append(turned)
        self._recipe, self._directory, self._found = event.recipe, RunDirectory(event.run_directory), list[str]()
        if self._directory.recipe.is_file():
            try:
                self._found = changes(self._directory.recipe.read_text(encoding="utf-8"), event.recipe, str(event.run_directory))
            except UserError as error:
                event.against.append(error)

    def on_prepared(self, event: Prepared) -> None:
        if self._found:
            event.session.tell(f"{self._directory.path} goes on with changes: {'; '.join(self._found)}")

    def on_model_built(self, event: ModelBuilt) -> None:
        if self._found and first_process():
            write_text(self._directory.recipe, self._recipe.source)
            now, info = provenance(self._recipe, whole=True), self._directory.info()
            before = info.get("provenance", {})
            kept = {key: entry for key, entry in before.items() if entry["component"] == now.get(key, {}).get("component")}
            said = {"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "step": event.total, "changes": self._found}
            self._directory.update(provenance=now | kept, resumed=[*info.get("resumed", []), said])


def _cannot_turn(recipe: Recipe, run: Path) -> UserError | None:
    """What is wrong where a run is to turn again what was turned, and the listener that does so is blocked."""
    points = metadata.entry_points(group=LISTENERS, name="course")
    blocked = "course" in recipe.plugins.block or any(block_of(point) for point in points)
    if not blocked or not (knobs.recorded(run) or knobs.replayed()):
        return None
    return UserError(f"{run}: what was turned ({knobs.FILE}) would not be turned again: the listener course is blocked")


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
