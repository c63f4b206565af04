"""One plugin, loaded: what it offers, or whose fault it is that it offers nothing. Torch-free."""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import threading
import traceback
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs
import pluggy

from ..errors import UserError, nearest
from . import deprecations as deprecated
from . import hookspecs, output
from .entry_points import BLOCK, Origin
from .entry_points import PLUGINS as GROUP
from .spec import ComponentSpec

#: The one hook that is a question; all others are told something.
QUESTION = "ibllm_components"


#: Seconds after which a line says what is still being imported.
PATIENCE = 10.0
#: Where an error may happen that is the fault of who called them.
_LIBRARIES = ("torch", "numpy", "attr", "cattrs", "click")


class PluginError(UserError):
    """A component exists but cannot be used; the message names its distribution and the cause."""


@attrs.frozen
class Plugin:
    """A loaded plugin: `specs` are its components, `hooks` the names of the lifecycle hooks it implements, called through `host`."""

    origin: Origin
    host: pluggy.PluginManager
    specs: tuple[ComponentSpec, ...]
    hooks: tuple[str, ...]


def load(point: metadata.EntryPoint, origin: Origin) -> Plugin:
    """Loads one plugin and asks it for its components, in a pluggy manager of its own, so that every answer and failure is that plugin's."""
    with guarded(origin, f"importing {point.value}"), deprecated.attributed(origin):
        plugin = point.load()
        host = pluggy.PluginManager(GROUP)
        host.add_hookspecs(hookspecs)
        try:
            host.register(plugin, point.name)
        except pluggy.PluginValidationError as error:
            raise PluginError(f"{point.value}: {_one_line(error)}") from error
        implemented = host.get_hookcallers(plugin) or []
        _check_hooks(point, implemented)
        callers = [caller for caller in implemented if caller.has_spec()]
        lifecycle = tuple(sorted(caller.name for caller in callers if caller.name != QUESTION))
        asked = len(lifecycle) < len(callers)
        return Plugin(origin, host, tuple(_specs(point, host)) if asked else (), lifecycle)


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
    if not answers:
        raise PluginError(f"{point.value}: ibllm_components gave None, expected an iterable of ComponentSpec")
    function = host.hook.ibllm_components.get_hookimpls()[0].function
    for spec in answers[0]:
        if not isinstance(spec, ComponentSpec):
            raise PluginError(f"{point.value}: ibllm_components gave {spec!r}, expected a ComponentSpec")
        for field in attrs.fields(ComponentSpec):
            value, number = getattr(spec, field.name), field.name == "api"
            if not isinstance(value, int if number else str) or isinstance(value, bool) or value == "":
                given = f"{spec.kind}.{spec.name} with {field.name} = {value!r}"
                raise PluginError(f"{point.value}: ibllm_components gave {given}, expected {'an integer' if number else 'a string'}")
        deprecated.check_api(spec, function)
        yield spec


def hook_names() -> list[str]:
    """All hooks there are."""
    return sorted(name for name in vars(hookspecs) if name.startswith(f"{GROUP}_"))


def import_object(path: str, what: str, origin: Origin) -> object:
    """What ``module:name`` stands for; raises `PluginError` with the cause where a plugin's module cannot be imported."""
    module, _, attribute = path.partition(":")
    try:
        with guarded(origin, f"importing {path}"):
            return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except (Exception, SystemExit) as error:
        more = f"; {remedy(error, origin)}" if isinstance(error, ModuleNotFoundError) else ""
        raise PluginError(f"{origin}: {what}, {path}, cannot be imported: {cause(error)}{more}") from error


@contextlib.contextmanager
def blamed(origin: Origin, what: str) -> Iterator[None]:
    """As `guarded`; what is raised within, `SystemExit` too, becomes a `PluginError` that says where it comes from and what helps."""
    try:
        with guarded(origin, f"asking {what}"):
            yield
    except (Exception, SystemExit) as error:
        raise PluginError(f"{origin}: {what}: {cause(error)}; {remedy(error, origin)}") from error


@contextlib.contextmanager
def guarded(origin: Origin, what: str) -> Iterator[None]:
    """A stranger's code runs within: if it takes long a line says so, and it cannot write into a command's output (``--json``)."""
    slow = threading.Timer(PATIENCE, _say_that_it_takes_long, (what, origin))
    slow.daemon = True
    slow.start()
    try:
        with stdout_to_stderr(origin):
            yield
    finally:
        slow.cancel()


def _say_that_it_takes_long(what: str, origin: Origin) -> None:
    sys.stderr.write(f"still {what} from {origin.distribution} {origin.version}\n")
    sys.stderr.flush()


class _Named:
    """Standard error, each line behind the plugin that wrote it."""

    def __init__(self, origin: Origin) -> None:
        self._origin, self._fresh = origin, True

    def write(self, text: str) -> int:
        for line in text.splitlines(keepends=True):
            sys.stderr.write(f"[{self._origin}] {line}" if self._fresh else line)
            self._fresh = line.endswith("\n")
        return len(text)

    def end(self) -> None:
        """Ends the line, where it was left open."""
        if not self._fresh:
            self.write("\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


@contextlib.contextmanager
def stdout_to_stderr(origin: Origin) -> Iterator[None]:
    """What a plugin prints goes to standard error under its name; what its child processes print goes there too."""
    said = _Named(origin)
    with output.stdout_to_stderr(said):
        try:
            yield
        finally:
            said.end()


def cause(error: BaseException) -> str:
    """One line: the exception's type, its message, and the line of the plugin that raised it."""
    if isinstance(error, UserError):
        return str(error)
    text = f"{type(error).__name__}: {_one_line(error)}"
    machinery = ["<frozen importlib", importlib.__file__, metadata.__file__, contextlib.__file__, str(Path(__file__).parent)]
    machinery += [str(Path(str(sys.modules[name].__file__)).parent) for name in _LIBRARIES if name in sys.modules]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(tuple(machinery))]
    return text if isinstance(error, SyntaxError) or not frames else f"{text} ({frames[-1].filename}:{frames[-1].lineno})"


def remedy(error: BaseException, origin: Origin) -> str:
    """What a user can do about a plugin, or a command, that failed to load."""
    out = f"leave the plugin out with {BLOCK}={origin.plugin}" if origin.group == GROUP else f"uninstall {origin.distribution}"
    own = origin.value.partition(":")[0].partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] != own:
        return f"{origin} needs {error.name}: install it, or all it needs with pip install --upgrade {origin.distribution}; or {out}"
    return f"upgrade or uninstall {origin.distribution}" + (f", or {out}" if origin.group == GROUP else "")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
