"""The listeners of every run: metrics.jsonl, trackers, hooks of plugins that the recipe names, and what the core's own package registers."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs

from ..errors import Notice, writing
from ..host.attribution import Fault, running, stdout_to_stderr
from ..host.entry_points import LISTENERS, OURS, block_of, origin_of
from ..host.manager import Plugin, manager
from ..interfaces.reporting import Panel, Tracker
from ..model import build
from ..model.model import Model
from ..recipe.locate import Component
from ..recipe.schema import Recipe
from ..runs.directory import write_text
from . import events
from .events import Handler, Listener

#: Lifecycle hook → its event.
HOOKS: Mapping[str, type] = {
    "ibllm_recipe_loaded": events.RunStarted,
    "ibllm_model_built": events.ModelBuilt,
    "ibllm_stage_started": events.StageStarted,
    "ibllm_step_ended": events.Stepped,
    "ibllm_validation_ended": events.Validated,
    "ibllm_stage_ended": events.StageEnded,
    "ibllm_run_ended": events.RunEnded,
    "ibllm_error": events.Failed,
}


class MetricsFile(Listener):
    """Writes metrics.jsonl, one JSON object a line; after a restart what comes again is forgotten: lines beyond its step, `total`, results, and stages but for
    those that have `ended`."""

    key, essential = "listeners/metrics.jsonl", True

    def __init__(self, path: Path, total: int, ended: Collection[str] = ()) -> None:
        if path.exists():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            write_text(path, "".join(f"{line}\n" for line in lines if _is_kept(line, total, ended)))
        self._path = path

    def on_logged(self, event: events.Logged) -> None:
        row = {"step": event.total, "stage": event.stage, "time": time.time(), "kind": event.kind}
        with writing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row | dict(event.figures)) + "\n")


def _is_kept(line: str, total: int, ended: Collection[str]) -> bool:
    try:
        row = json.loads(line)
        again = row["kind"] == "result" or (row["kind"] == "stage" and row["stage"] not in ended)
        return bool(total > 0 and row["step"] <= total and not again)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


class Tracking(Listener):
    """Hands rows of figures and sheets of samples to a tracker, `name` in the recipe."""

    def __init__(self, name: str, component: Component, tracker: Tracker) -> None:
        self.key, self._tracker = f"listeners/{name}", tracker
        self.distribution, self.version = component.distribution, component.version
        self._panels: Sequence[Panel] = ()
        self._total = 0

    def on_logged(self, event: events.Logged) -> None:
        self._total = event.total
        self._tracker.scalars({f"{event.stage}/{event.kind}/{name}": value for name, value in event.figures.items()}, event.total)

    def on_sampled(self, event: events.Sampled) -> None:
        self._tracker.image(f"samples/{event.name}", event.pixels, event.total)

    def on_run_ended(self, event: events.RunEnded) -> None:
        self._panels = event.panels  # other listeners may append some still

    def on_run_closed(self, event: events.RunClosed) -> None:
        for panel in self._panels:
            if panel.picture is not None:
                pixels = panel.picture if panel.picture.ndim == 3 else panel.picture[..., None]
                self._tracker.image(f"panels/{panel.title}" + f" ({panel.source})" * bool(panel.source), pixels, self._total)
        self._tracker.close()


def trackers(recipe: Recipe, run_directory: Path, total: int) -> list[Tracking]:
    """The recipe's trackers, opened."""
    built = build.build_trackers(recipe)
    for tracker in built.values():
        tracker.open(run_directory, total, recipe)
    return [Tracking(name, recipe.trackers[name], tracker) for name, tracker in built.items()]


class PluginHooks(Listener):
    """Calls a plugin's lifecycle hooks (`ibllm_core.host.hookspecs`) with the event's fields, the recipe, the run directory and, once built, the model."""

    def __init__(self, plugin: Plugin, recipe: Recipe, run_directory: Path) -> None:
        self.distribution, self.version, self.hooks = plugin.origin.distribution, plugin.origin.version, plugin.hooks
        self.key = f"hooks/{plugin.origin.plugin}"
        self.model: Model | None = None
        self._plugin, self._shared = plugin, {"recipe": recipe, "run_directory": run_directory}

    def handlers(self) -> Iterable[tuple[type, str, Handler]]:
        return [(HOOKS[hook], hook, partial(self._call, getattr(self._plugin.host.hook, hook))) for hook in self.hooks]

    def _call(self, hook: Callable[..., Any], event: Any) -> None:
        with stdout_to_stderr(str(self._plugin.origin)):
            hook(**attrs.asdict(event, recurse=False) | self._shared | {"model": self.model})


def plugin_hooks(recipe: Recipe, run_directory: Path) -> list[PluginHooks]:
    """The hooks of the plugins that a recipe names: those of its components, and ``[plugins] hooks``."""
    found = manager(recipe.plugins.block)
    used = [found.origin(component.kind, component.use).plugin for component in recipe.components().values()]
    plugins = (found.plugin(name) for name in dict.fromkeys((*used, *recipe.plugins.hooks)))
    return [PluginHooks(plugin, recipe, run_directory) for plugin in plugins if plugin.hooks]


def standing(recipe: Recipe, first: bool = True) -> tuple[list[Listener], list[str]]:
    """The listeners that the core's own package registers, and the names of those that are blocked. It is said that others' are not heard.

    Where this is not the `first` process only those that are heard `everywhere`.
    """
    found: list[Listener] = []
    blocked: list[str] = []
    for point in sorted(metadata.entry_points(group=LISTENERS), key=lambda point: point.name):
        origin = origin_of(point)
        if block_of(point) or point.name in recipe.plugins.block:
            blocked.append(point.name)
            continue
        if origin.distribution != OURS:
            heard = "a run hears another package's lifecycle hooks, where its recipe names the plugin"
            if first:
                warnings.warn(Notice(f"the listener {point.name!r} of {origin} is not heard: {heard}"), stacklevel=2)
            continue
        try:
            with running(origin, f"the listener {point.name!r} ({origin}) cannot be used", importing=point.value):
                listener = point.load()()
            listener.distribution, listener.version = origin.distribution, origin.version
            found += [listener] if first or listener.everywhere else []
        except Fault as fault:
            warnings.warn(Notice(str(fault)), stacklevel=2)
    return found, blocked
