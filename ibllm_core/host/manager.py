"""The plugin manager: finds plugins by entry point, loads them one by one, and says what there is. Torch-free.

A plugin that cannot be used costs nobody else anything: it becomes a row with its error, and an error only where a recipe asks
for something it might have given. Nothing is ever decided by load order: what two distributions both claim, neither has.
"""

from __future__ import annotations

import functools
import inspect
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from importlib import metadata
from typing import TYPE_CHECKING, Any

import attrs
import pluggy

from ..errors import UserError, nearest, suggestion
from . import hookspecs
from .attribution import Fault, PluginError, remedy, running
from .entry_points import BLOCK, PLUGINS, Origin, blocked_names, file_of, origin_of, registered, tools_by_name
from .spec import API, KINDS, OLDEST, ComponentSpec

if TYPE_CHECKING:
    from .options import Config

__all__ = ["Manager", "PluginError", "Row", "UnknownComponent", "manager"]

#: The one hook that is a question; all others are told something.
QUESTION = "ibllm_components"


class UnknownComponent(UserError):
    """No usable plugin offers the component `name` of a `kind`; `known` are all names there are, `hints` sentences about plugins that may have it."""

    def __init__(self, kind: str, name: str, known: tuple[str, ...], hints: tuple[str, ...]) -> None:
        self.kind, self.name, self.known, self.hints = kind, name, known, hints
        guess = nearest(name, known)
        unknown = f"no {kind} is called {name!r}" + (f"; did you mean {guess!r}?" if guess else ".")
        there = f"There are: {', '.join(known)}." if known else f"No plugin offers any {kind}."
        super().__init__(" ".join((unknown, there, *hints)))


@attrs.frozen
class Plugin:
    """A loaded plugin: `specs` are its components, `hooks` the names of the lifecycle hooks it implements, called through `host`."""

    origin: Origin
    host: pluggy.PluginManager
    specs: tuple[ComponentSpec, ...]
    hooks: tuple[str, ...]


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

    @property
    def explanation(self) -> str:
        """Whose it is, what is wrong, and what helps."""
        return f"{self.distribution}=={self.version}: {self.error}; {self.remedy}"


class Manager:
    """All plugins of this environment, as they stand when it is made.

    Args:
        block: entry-point names that are not loaded.
        entry_points: instead of the environment's own.
    """

    def __init__(self, block: Iterable[str] = (), entry_points: Iterable[metadata.EntryPoint] | None = None) -> None:
        self.block = frozenset(block)
        self._rows: list[Row] = []
        self._plugins: dict[str, Plugin] = {}
        self._components: dict[tuple[str, str], tuple[ComponentSpec, Origin]] = {}
        self._file = functools.cache(file_of)
        self._load(registered(PLUGINS) if entry_points is None else entry_points)

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
        left = self.block.difference(self._failed("blocked"))
        return tuple(sorted(left - tools_by_name())) if left else ()

    def get(self, kind: str, name: str) -> ComponentSpec:
        """The specification of a component.

        Raises:
            UnknownComponent: there is none of that name.
            PluginError: there is one that cannot be used, or more than one.
        """
        return self._find(kind, name)[0]

    def origin(self, kind: str, name: str) -> Origin:
        """Whose a component is: its plugin and distribution; raises as `get` does."""
        return self._find(kind, name)[1]

    def blamed(self, kind: str, name: str, what: str) -> AbstractContextManager[None]:
        """Within, the component's own code runs: see `ibllm_core.host.attribution.running`. Raises as `get` does."""
        origin = self.origin(kind, name)
        return running(origin, f"{origin}: {what} of {kind}.{name}")

    def plugin(self, name: str) -> Plugin:
        """A loaded plugin by its entry point's name. Raises `PluginError` where there is none or it cannot be used."""
        if name in self._plugins:
            return self._plugins[name]
        if name in self._failed("error"):
            raise PluginError(f"the plugin {name!r} is broken: {self._failed('error')[name].explanation}")
        raise PluginError(f"the plugin {name!r} is blocked" if name in self._failed("blocked") else f"no plugin is called {name!r}")

    def config_class(self, kind: str, name: str) -> type[Config]:
        """The component's options class, imported; raises `PluginError` with the cause where that fails, and as `get` does."""
        from .options import Config

        found, who = self._imported(kind, name, "config")
        if not (isinstance(found, type) and issubclass(found, Config)):
            raise PluginError(f"{who} is no class deriving from {Config.__module__}.Config")
        return found

    def factory(self, kind: str, name: str) -> Callable[..., Any]:
        """The component's factory, imported; raises `PluginError` with the cause where that fails, and as `get` does."""
        found, who = self._imported(kind, name, "factory")
        if not callable(found):
            raise PluginError(f"{who} cannot be called")
        return found

    def _imported(self, kind: str, name: str, field: str) -> tuple[object, str]:
        """What a spec's ``module:name`` stands for, and what messages about it begin with."""
        spec, origin = self._find(kind, name)
        path = getattr(spec, field)
        who = f"{origin}: the {field} of {kind}.{name}, {path},"
        # A study asks thousands of times, and a module that is there takes no time that a line would have to explain.
        with running(origin, f"{who} cannot be imported", importing="" if path.partition(":")[0] in sys.modules else path):
            return pkgutil.resolve_name(path), who

    def _find(self, kind: str, name: str) -> tuple[ComponentSpec, Origin]:
        assert kind in KINDS, f"no kind {kind!r}"
        if (kind, name) in self._components:
            return self._components[kind, name]
        for row in self._rows:
            if (row.kind, row.name) == (kind, name):
                raise PluginError(f"{row.label} cannot be used: {row.error}; {row.remedy}")
        raise UnknownComponent(kind, name, self.names(kind), tuple(self._hints(name)))

    def _failed(self, status: str) -> dict[str, Row]:
        """The plugins of which nothing can be used, by name."""
        return {row.plugin: row for row in self._rows if row.status == status and not row.kind}

    def _hints(self, name: str) -> Iterator[str]:
        broken, blocked = self._failed("error"), self._failed("blocked")
        suspects = [name] if name in broken else [*broken] if len(broken) == 1 else []
        for plugin in suspects:
            yield f"The plugin {plugin!r} might have it, but is broken: {broken[plugin].explanation}."
        others = sorted(broken.keys() - suspects)
        if others:
            yield f"Plugins that failed to load (see `ibllm plugins`): {', '.join(others)}."
        if blocked:
            yield f"Plugins that are blocked (by {BLOCK} or by the recipe): {', '.join(blocked)}."

    # Loading

    def _load(self, points: Iterable[metadata.EntryPoint]) -> None:
        registered: dict[str, list[metadata.EntryPoint]] = {}
        for point in points:
            registered.setdefault(point.name, []).append(point)
        claims: dict[tuple[str, str], list[tuple[ComponentSpec, Origin]]] = {}
        for name, alike in registered.items():
            origins = [origin_of(point) for point in alike]
            if name in self.block:
                status, error, help_ = "blocked", "blocked, not loaded", ""
            elif len(alike) > 1:
                error = f"the plugin name {name!r} is registered by {_names(origins)}"
                status, help_ = "error", f"uninstall all but one ({BLOCK}={name} leaves all out)"
            else:
                try:
                    plugin = self._plugins[name] = _load_one(alike[0], origins[0])
                    for spec in plugin.specs:
                        claims.setdefault((spec.kind, spec.name), []).append((spec, plugin.origin))
                    if plugin.specs:
                        continue
                    status, error, help_ = "ok", "", ""
                except Fault as fault:  # whatever a stranger's module does, it is only that plugin's failure
                    status, error, help_ = "error", fault.cause, fault.remedy
            for origin in origins:
                self._add_row(origin, None, status, error, help_)
        for key, claimed in claims.items():
            for spec, origin in claimed:
                error, help_ = _fault(spec, origin)
                if not error and len(claimed) > 1:
                    error, help_ = f"more than one plugin offers it: {_names(o for _, o in claimed)}", "block or uninstall all but one"
                if not error:
                    self._components[key] = (spec, origin)
                self._add_row(origin, spec, "error" if error else "ok", error, help_)

    def _add_row(self, origin: Origin, spec: ComponentSpec | None, status: str, error: str, remedy: str) -> None:
        kind, name, summary, api = (spec.kind, spec.name, spec.summary, spec.api) if spec else ("", origin.plugin, "", 0)
        hooks = self._plugins[origin.plugin].hooks if origin.plugin in self._plugins else ()
        where = (origin.distribution, origin.version)
        self._rows.append(Row(kind, name, summary, *where, status, error, origin.plugin, remedy, self._file(origin.value), hooks, api))


def manager(block: Iterable[str] = ()) -> Manager:
    """The manager of this process, without the plugins that `IBLLM_BLOCK` or `block` (a recipe's) names; made once for each set."""
    return _manager(blocked_names().union(block))


@functools.cache
def _manager(block: frozenset[str]) -> Manager:
    return Manager(block)


def _load_one(point: metadata.EntryPoint, origin: Origin) -> Plugin:
    """Loads one plugin, in a pluggy manager of its own, so that every answer is that plugin's. Raises `Fault` for whatever goes wrong."""
    with running(origin, importing=point.value):
        plugin = point.load()
        host = pluggy.PluginManager(hookspecs.PROJECT)
        host.add_hookspecs(hookspecs)
        try:
            host.register(plugin, point.name)
        except pluggy.PluginValidationError as error:
            raise PluginError(f"{point.value}: {' '.join(str(error).split())}") from error
        implemented = host.get_hookcallers(plugin) or []
        _check_hooks(point, implemented)
        names = {caller.name for caller in implemented if caller.has_spec()}
        return Plugin(origin, host, tuple(_specs(point, host)) if QUESTION in names else (), tuple(sorted(names - {QUESTION})))


def _check_hooks(point: metadata.EntryPoint, callers: list[pluggy.HookCaller]) -> None:
    """Raises `PluginError` for a hook that is not known here, unless it is marked as one that another ibllm may have."""
    if not callers:
        raise PluginError(f"{point.value} implements no hook (is @hookimpl missing?)")
    unknown = sorted(c.name for c in callers if not c.has_spec() and not all(impl.optionalhook for impl in c.get_hookimpls()))
    if unknown:
        newer = "If a newer ibllm has it, upgrade ibllm or mark it @hookimpl(optionalhook=True)"
        raise PluginError(f"{point.value} implements an unknown hook {unknown[0]!r}; {suggestion(unknown[0], hook_names())} {newer}")


def _specs(point: metadata.EntryPoint, host: pluggy.PluginManager) -> Iterator[ComponentSpec]:
    answers = host.hook.ibllm_components()  # pluggy leaves an answer of None out
    gave = f"{point.value}: ibllm_components gave"
    if not answers:
        raise PluginError(f"{gave} None, expected an iterable of ComponentSpec")
    code = inspect.unwrap(host.hook.ibllm_components.get_hookimpls()[0].function).__code__
    for spec in answers[0]:
        if not isinstance(spec, ComponentSpec):
            raise PluginError(f"{gave} {spec!r}, expected a ComponentSpec")
        for name, value in attrs.asdict(spec).items():
            wanted, words = (int, "an integer") if name == "api" else (str, "a string")
            if not isinstance(value, wanted) or isinstance(value, bool) or value == "":
                raise PluginError(f"{gave} {spec.kind}.{spec.name} with {name} = {value!r}, expected {words}")
        if OLDEST <= spec.api < API:
            told = f"{spec.kind}.{spec.name} was written for version {spec.api} of the plugin interface, which is still accepted; write it for {API}"
            warnings.warn_explicit(told, hookspecs.PluginDeprecationWarning, code.co_filename, code.co_firstlineno)
        yield spec


def hook_names() -> list[str]:
    """All hooks there are."""
    return sorted(name for name in vars(hookspecs) if name.startswith(f"{hookspecs.PROJECT}_"))


def _fault(spec: ComponentSpec, origin: Origin) -> tuple[str, str]:
    """Why a spec cannot be used, and what helps; empty strings where it can."""
    written = f"{origin} was written for version {spec.api} of the plugin interface"
    if spec.api > API:
        return f"{written}, this ibllm speaks {API}", "upgrade ibllm"
    if spec.api < OLDEST:
        return f"{written}, which this ibllm, that speaks {API}, no longer accepts", f"upgrade {origin.distribution}"
    help_ = remedy(PluginError(""), origin)
    if spec.kind not in KINDS:
        return f"{origin} gives it the unknown kind {spec.kind!r}; {suggestion(spec.kind, KINDS)}", help_
    for field in ("factory", "config"):
        module, colon, attribute = getattr(spec, field).partition(":")
        if not (module and colon and attribute):
            return f"{origin} gives it the {field} {getattr(spec, field)!r}; expected 'module:name'", help_
    return "", ""


def _names(origins: Iterable[Origin]) -> str:
    return " and ".join(sorted(f"{origin} ({origin.value})" for origin in origins))
