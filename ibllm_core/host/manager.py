"""The plugin manager: finds plugins by entry point, loads them one by one, and knows whom to blame. Torch-free.

A plugin that cannot be used costs nobody else anything: it becomes a row with its error, and an error only where a recipe asks
for something it might have given. Nothing is ever decided by load order: what two distributions both claim, neither has.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from importlib import metadata
from typing import Any

import attrs

from ..errors import UserError, nearest
from .entry_points import BLOCK, Origin, blocked_names, file_of, origin_of, tools_by_name
from .entry_points import PLUGINS as GROUP
from .loading import Plugin, PluginError, blamed, cause, import_object, load, remedy, stdout_to_stderr
from .options import Config
from .spec import API, KINDS, OLDEST, ComponentSpec

__all__ = ["BLOCK", "GROUP", "Manager", "Origin", "PluginError", "Row", "UnknownComponent", "manager"]


class UnknownComponent(UserError):
    """No usable plugin offers the component. `kind` and `name` were asked for; `nearest` is the closest name there is, or empty;
    `known` are all names of the kind; `hints` are sentences about plugins that failed to load or are blocked; `clash` is the beginning of
    the message where several packages claim the name of the plugin that probably has it, else empty."""

    def __init__(self, kind: str, name: str, known: tuple[str, ...], hints: tuple[str, ...], clash: str = "") -> None:
        self.kind, self.name, self.known, self.hints, self.clash = kind, name, known, hints, clash
        self.nearest = nearest(name, known)
        guess = f"; did you mean {self.nearest!r}?" if self.nearest else "."
        there = f"There are: {', '.join(known)}." if known else f"No plugin offers any {kind}."
        super().__init__(" ".join((f"{clash}no {kind} is called {name!r}{guess}", there, *hints)))


@attrs.frozen
class Row:
    """One line of ``ibllm plugins``: a component, or a plugin that gave none (then `kind` is empty and `name` the entry point's).

    `status` is ``ok``, ``error`` or ``blocked``; `error` says why and `remedy` what helps, both empty when all is well. `file` is the plugin
    module's (empty where it cannot be found), `hooks` are the lifecycle hooks that the plugin implements, `api` the interface a component
    was written for (0 for a plugin that gave none).
    """

    kind: str
    name: str
    summary: str
    distribution: str
    version: str
    status: str
    error: str
    plugin: str
    remedy: str = ""
    file: str = ""
    hooks: tuple[str, ...] = ()
    api: int = 0

    @property
    def label(self) -> str:
        """As messages name it."""
        return f"{self.kind}.{self.name}" if self.kind else f"plugin {self.plugin!r}"


class Manager:
    """All plugins of this environment, as they stand when it is made.

    Args:
        block: entry-point names that are not loaded.
        entry_points: instead of the environment's own.
    """

    def __init__(self, block: Iterable[str] = (), entry_points: Iterable[metadata.EntryPoint] | None = None) -> None:
        self.block = frozenset(block)
        self._components: dict[tuple[str, str], tuple[ComponentSpec, Origin]] = {}
        self._faults: dict[tuple[str, str], str] = {}
        self._broken: dict[str, str] = {}
        self._twins: dict[str, str] = {}
        self._plugins: dict[str, Plugin] = {}
        self._blocked: list[str] = []
        self._rows: list[Row] = []
        found = metadata.entry_points(group=GROUP) if entry_points is None else entry_points
        self._load([(point, origin_of(point)) for point in found])

    # What there is

    def rows(self) -> list[Row]:
        """Every component and every plugin that gave none, by kind (in the order of `KINDS`), then by name; failures last."""
        order = {kind: index for index, kind in enumerate(KINDS)}
        return sorted(self._rows, key=lambda row: (order.get(row.kind, len(order)), row.name, row.distribution))

    def names(self, kind: str) -> tuple[str, ...]:
        """The names that ``use =`` may have for a kind."""
        return tuple(sorted(name for of, name in self._components if of == kind))

    def unmatched_blocks(self) -> tuple[str, ...]:
        """Blocked names that no installed plugin or tool has: probably misspelt."""
        return tuple(sorted(self.block.difference(self._blocked, tools_by_name())))

    def get(self, kind: str, name: str) -> ComponentSpec:
        """The specification of a component.

        Raises:
            UnknownComponent: there is none of that name.
            PluginError: there is one that cannot be used, or more than one.
        """
        return self._find(kind, name)[0]

    def provider(self, kind: str, name: str) -> tuple[str, str]:
        """(distribution, version) of the component's plugin; raises as `get` does."""
        origin = self._find(kind, name)[1]
        return origin.distribution, origin.version

    def plugin_of(self, kind: str, name: str) -> str:
        """The entry-point name of the component's plugin; raises as `get` does."""
        return self._find(kind, name)[1].plugin

    def blamed(self, kind: str, name: str, what: str) -> AbstractContextManager[None]:
        """Within, the component's own code runs: see `ibllm_core.host.loading.blamed`. Raises as `get` does."""
        return blamed(self._find(kind, name)[1], f"{what} of {kind}.{name}")

    def quiet(self, kind: str, name: str) -> AbstractContextManager[None]:
        """Within, what the component prints goes to standard error under its plugin's name. Raises as `get` does."""
        return stdout_to_stderr(self._find(kind, name)[1])

    def plugin(self, name: str) -> Plugin:
        """A loaded plugin by its entry point's name. Raises `PluginError` where there is none or it cannot be used."""
        if name in self._plugins:
            return self._plugins[name]
        if name in self._broken:
            raise PluginError(f"the plugin {name!r} is broken: {self._broken[name]}")
        raise PluginError(f"the plugin {name!r} is blocked" if name in self._blocked else f"no plugin is called {name!r}")

    def hooked(self) -> tuple[str, ...]:
        """The plugins that implement lifecycle hooks."""
        return tuple(sorted(name for name, plugin in self._plugins.items() if plugin.hooks))

    def config_class(self, kind: str, name: str) -> type[Config]:
        """The component's options class, imported; raises `PluginError` with the cause where that fails, and as `get` does."""
        spec, origin = self._find(kind, name)
        found = import_object(spec.config, f"the config of {kind}.{name}", origin)
        if not (isinstance(found, type) and issubclass(found, Config)):
            raise PluginError(
                f"{origin}: the config of {kind}.{name}, {spec.config}, is no class deriving from ibllm_core.host.options.Config"
            )
        return found

    def factory(self, kind: str, name: str) -> Callable[..., Any]:
        """The component's factory, imported; raises `PluginError` with the cause where that fails, and as `get` does."""
        spec, origin = self._find(kind, name)
        found = import_object(spec.factory, f"the factory of {kind}.{name}", origin)
        if not callable(found):
            raise PluginError(f"{origin}: the factory of {kind}.{name}, {spec.factory}, cannot be called")
        return found

    def _find(self, kind: str, name: str) -> tuple[ComponentSpec, Origin]:
        assert kind in KINDS, f"no kind {kind!r}"
        found = self._components.get((kind, name))
        if found is not None:
            return found
        fault = self._faults.get((kind, name))
        if fault is not None:
            raise PluginError(f"{kind}.{name} cannot be used: {fault}")
        suspects = [plugin for plugin in self._broken if plugin == name] or ([*self._broken] if len(self._broken) == 1 else [])
        clash = next((f"{self._twins[plugin]}, so none of them is loaded; " for plugin in suspects if plugin in self._twins), "")
        raise UnknownComponent(kind, name, self.names(kind), tuple(self._hints(suspects)), clash)

    def _hints(self, suspects: list[str]) -> Iterator[str]:
        for plugin in suspects:
            if plugin in self._twins:
                yield f"To have what one of them offers: {_UNINSTALL}."
            else:
                yield f"The plugin {plugin!r} might have it, but is broken: {self._broken[plugin]}."
        for plugin in sorted(set(self._twins).difference(suspects)):
            yield f"None of several packages is loaded: {self._twins[plugin]}; {_UNINSTALL}."
        others = sorted(set(self._broken).difference(suspects, self._twins))
        if others:
            yield f"Plugins that failed to load (see `ibllm plugins`): {', '.join(others)}."
        if self._blocked:
            yield f"Plugins that are blocked (by {BLOCK} or by the recipe): {', '.join(self._blocked)}."

    # Loading

    def _load(self, points: list[tuple[metadata.EntryPoint, Origin]]) -> None:
        claims: dict[tuple[str, str], list[tuple[ComponentSpec, Origin]]] = {}
        owners: dict[str, list[Origin]] = {}
        for point, origin in points:
            owners.setdefault(point.name, []).append(origin)
        for point, origin in points:
            if point.name in self.block:
                self._blocked.append(point.name)
                self._add_row(origin, status="blocked", error="blocked, not loaded")
                continue
            try:
                if len(owners[point.name]) > 1:
                    self._twins[point.name] = f"the plugin name {point.name!r} is registered by {_names(owners[point.name])}"
                    raise _Twins(self._twins[point.name])
                plugin = load(point, origin)
            except (Exception, SystemExit) as error:  # whatever a stranger's module does, it is only that plugin's failure
                help_ = f"{_UNINSTALL} ({BLOCK}={point.name} leaves all out)" if isinstance(error, _Twins) else remedy(error, origin)
                self._broken[point.name] = "; ".join(filter(None, (f"{origin}: {cause(error)}", help_)))
                self._add_row(origin, status="error", error=cause(error), remedy=help_)
                continue
            self._plugins[point.name] = plugin
            if not plugin.specs:
                self._add_row(origin)
            for spec in plugin.specs:
                claims.setdefault((spec.kind, spec.name), []).append((spec, origin))
        for key, claimed in claims.items():
            self._settle(key, claimed)

    def _settle(self, key: tuple[str, str], claimed: list[tuple[ComponentSpec, Origin]]) -> None:
        origins = [origin for _, origin in claimed]
        for spec, origin in claimed:
            fault, help_ = _fault(spec, origin)
            if not fault and len(claimed) > 1:
                fault, help_ = f"more than one plugin offers it: {_names(origins)}", f"block or {_UNINSTALL}"
            if fault:
                self._faults[key] = f"{fault}; {help_}"
            else:
                self._components[key] = (spec, origin)
            self._add_row(origin, spec, "error" if fault else "ok", fault, help_)

    def _add_row(self, origin: Origin, spec: ComponentSpec | None = None, status: str = "ok", error: str = "", remedy: str = "") -> None:
        kind, name, summary, api = (spec.kind, spec.name, spec.summary, spec.api) if spec else ("", origin.plugin, "", 0)
        hooks = self._plugins[origin.plugin].hooks if origin.plugin in self._plugins else ()
        where = (origin.distribution, origin.version)
        self._rows.append(Row(kind, name, summary, *where, status, error, origin.plugin, remedy, file_of(origin.value), hooks, api))


def require_kind(kind: str, where: str = "") -> None:
    """Raises `UserError`, its message beginning with `where`, where there is no such kind."""
    if kind not in KINDS:
        guess = nearest(kind, KINDS)
        raise UserError(f"{where}no kind {kind!r}; " + (f"did you mean {guess!r}?" if guess else f"kinds are: {', '.join(KINDS)}"))


def manager(block: Iterable[str] = ()) -> Manager:
    """The manager of this process, without the plugins that `IBLLM_BLOCK` or `block` (a recipe's) names; made once for each set."""
    return _manager(blocked_names().union(block))


@functools.cache
def _manager(block: frozenset[str]) -> Manager:
    return Manager(block)


class _Twins(PluginError):
    """Two distributions register one plugin name."""


#: What helps where packages claim the same.
_UNINSTALL = "uninstall all but one"


def _fault(spec: ComponentSpec, origin: Origin) -> tuple[str, str]:
    """Why a spec cannot be used, and what helps; empty strings where it can."""
    written = f"{origin} was written for version {spec.api} of the plugin interface"
    if spec.api > API:
        return f"{written}, this ibllm speaks {API}", "upgrade ibllm"
    if spec.api < OLDEST:
        return f"{written}, which this ibllm, that speaks {API}, no longer accepts", f"upgrade {origin.distribution}"
    help_ = remedy(PluginError(""), origin)
    if spec.kind not in KINDS:
        guess = nearest(spec.kind, KINDS)
        more = f"did it mean {guess!r}?" if guess else f"kinds are: {', '.join(KINDS)}"
        return f"{origin} gives it the unknown kind {spec.kind!r}; {more}", help_
    for field in ("factory", "config"):
        module, colon, attribute = getattr(spec, field).partition(":")
        if not (module and colon and attribute):
            return f"{origin} gives it the {field} {getattr(spec, field)!r}; expected 'module:name'", help_
    return "", ""


def _names(origins: Iterable[Origin]) -> str:
    return " and ".join(sorted(f"{origin} ({origin.value})" for origin in origins))
