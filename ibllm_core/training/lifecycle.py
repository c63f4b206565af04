"""Telling a run's plugins how it goes: each in its own name, on its own time, at nobody else's risk. Torch-free."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import attrs

from ..errors import Notice
from ..host.loading import Plugin, cause, stdout_to_stderr
from ..host.manager import manager
from ..recipe.schema import Recipe


@attrs.frozen
class HookError:
    """A hook that raised: the message names the exception and the plugin's file and line."""

    plugin: str
    hook: str
    error: str


class Hooks:
    """The lifecycle hooks of some plugins (`ibllm_core.host.hookspecs`).

    Attributes:
        seconds: ``hooks/PLUGIN`` → what its hooks took so far.
        errors: the hooks that raised; they are not called again.
    """

    def __init__(self, plugins: Iterable[Plugin] = ()) -> None:
        self._plugins = tuple(plugin for plugin in plugins if plugin.hooks)
        self._listeners: dict[str, list[Plugin]] = {}
        for plugin in self._plugins:
            for hook in plugin.hooks:
                self._listeners.setdefault(hook, []).append(plugin)
        self.seconds: dict[str, float] = {}
        self.errors: list[HookError] = []

    def heard(self, hook: str) -> bool:
        """True where anybody implements it: to be asked once, before a loop."""
        return bool(self._listeners.get(hook))

    def call(self, hook: str, /, **arguments: Any) -> None:
        """Tells everybody who implements `hook`. What is returned is ignored, what is raised is noted (`errors`) and said once."""
        for plugin in tuple(self._listeners.get(hook, ())):
            started = time.perf_counter()
            shown = {name: MappingProxyType(dict(value)) if isinstance(value, Mapping) else value for name, value in arguments.items()}
            try:
                with stdout_to_stderr(plugin.origin):
                    getattr(plugin.host.hook, hook)(**shown)
            except (Exception, SystemExit) as error:
                self._contain(plugin, hook, error)
            finally:
                name = f"hooks/{plugin.origin.plugin}"
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def total(self) -> float:
        """Seconds of all hooks so far."""
        return sum(self.seconds.values())

    def _contain(self, plugin: Plugin, hook: str, error: BaseException) -> None:
        self._listeners[hook].remove(plugin)
        said = cause(error)
        self.errors.append(HookError(plugin.origin.plugin, hook, said))
        origin = plugin.origin
        what = f"{hook} of the plugin {origin.plugin!r} ({origin}) raised {said}"
        help_ = f"Tell its maintainer, or upgrade {origin.distribution}"
        warnings.warn(Notice(f"{what}; the run goes on without it. {help_}"), stacklevel=3)

    def record(self) -> dict[str, Any]:
        """For run.json: plugin → where it is from, the hooks it implements, and those that raised."""
        return {
            plugin.origin.plugin: {
                "distribution": plugin.origin.distribution,
                "version": plugin.origin.version,
                "hooks": list(plugin.hooks),
                "errors": [{"hook": e.hook, "error": e.error} for e in self.errors if e.plugin == plugin.origin.plugin],
            }
            for plugin in self._plugins
        }

    def take_over(self, record: Mapping[str, Any]) -> None:
        """Keeps the errors of an earlier part of the run, as `record` wrote them; the hooks are tried again."""
        for plugin in self._plugins:
            earlier = record.get(plugin.origin.plugin, {}).get("errors", [])
            self.errors += [HookError(plugin.origin.plugin, e["hook"], e["error"]) for e in earlier]


def hooks_of(recipe: Recipe) -> Hooks:
    """The hooks of the plugins that a recipe names: those of its components, and ``[plugins] hooks``."""
    found = manager(recipe.plugins.block)
    named = dict.fromkeys(found.plugin_of(component.kind, component.use) for component in recipe.components().values())
    return Hooks(found.plugin(name) for name in dict.fromkeys((*named, *recipe.plugins.hooks)))
