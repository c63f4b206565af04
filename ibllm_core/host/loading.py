"""One plugin, loaded and asked for its components. Torch-free."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from importlib import metadata

import attrs
import pluggy

from ..errors import nearest
from . import deprecations, hookspecs
from .attribution import PluginError, running
from .entry_points import Origin
from .spec import ComponentSpec

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
    with running(origin, importing=point.value), deprecations.attributed(origin):
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
        guess = nearest(unknown[0], hook_names())
        known = f"did it mean {guess!r}?" if guess else f"the hooks are: {', '.join(hook_names())}."
        newer = "If a newer ibllm has it: upgrade ibllm, or mark it @hookimpl(optionalhook=True)"
        raise PluginError(f"{point.value} implements an unknown hook {unknown[0]!r}; {known} {newer}")


def _specs(point: metadata.EntryPoint, host: pluggy.PluginManager) -> Iterator[ComponentSpec]:
    answers = host.hook.ibllm_components()  # pluggy leaves an answer of None out
    gave = f"{point.value}: ibllm_components gave"
    if not answers:
        raise PluginError(f"{gave} None, expected an iterable of ComponentSpec")
    function = host.hook.ibllm_components.get_hookimpls()[0].function
    for spec in answers[0]:
        if not isinstance(spec, ComponentSpec):
            raise PluginError(f"{gave} {spec!r}, expected a ComponentSpec")
        for name, value in attrs.asdict(spec).items():
            number = name == "api"
            if not isinstance(value, int if number else str) or isinstance(value, bool) or value == "":
                expected = "an integer" if number else "a string"
                raise PluginError(f"{gave} {spec.kind}.{spec.name} with {name} = {value!r}, expected {expected}")
        deprecations.check_api(spec, function)
        yield spec


def hook_names() -> list[str]:
    """All hooks there are."""
    return sorted(name for name in vars(hookspecs) if name.startswith(f"{hookspecs.PROJECT}_"))


def import_object(path: str, what: str, origin: Origin) -> object:
    """What ``module:name`` stands for; raises `Fault` where a plugin's module cannot be imported."""
    module, _, attribute = path.partition(":")
    with running(origin, f"{origin}: {what}, {path}, cannot be imported", importing=path):
        return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
