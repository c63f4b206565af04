"""One plugin, loaded and asked for its components. Torch-free."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from importlib import metadata

import attrs
import pluggy

from ..errors import suggestion
from . import hookspecs
from .attribution import PluginError, running
from .entry_points import Origin
from .spec import API, OLDEST, ComponentSpec

#: The one hook that is a question; all others are told something.
QUESTION = "ibllm_components"


@attrs.frozen
class Plugin:
    """A loaded plugin: `specs` are its components, `hooks` the names of the lifecycle hooks it implements, called through `host`."""

    origin: Origin
    host: pluggy.PluginManager
    specs: tuple[ComponentSpec, ...]
    hooks: tuple[str, ...]


def load(point: metadata.EntryPoint, origin: Origin) -> Plugin:
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
