"""One plugin, loaded: what it offers, or whose fault it is that it offers nothing. Torch-free."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs
import pluggy

from . import deprecated, hookspecs
from .errors import UserError, nearest
from .packaged import identity
from .spec import ComponentSpec
from .watchdog import TIMEOUT, Stuck, watch

#: The entry-point group of component plugins.
GROUP = hookspecs.PROJECT
#: Environment variable: entry-point names, separated by commas, that are not loaded.
BLOCK = "IBLLM_BLOCK"
#: The one hook that is a question; all others are told something.
QUESTION = "ibllm_components"


class PluginError(UserError):
    """A component exists but cannot be used; the message names its distribution and the cause."""


@attrs.frozen
class Origin:
    """Where a plugin comes from: its entry point's name and value, and the distribution that registered it."""

    plugin: str
    value: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution}=={self.version}"


@attrs.frozen
class Plugin:
    """A loaded plugin: `specs` are its components, `hooks` the names of the lifecycle hooks it implements, called through `host`."""

    origin: Origin
    host: pluggy.PluginManager
    specs: tuple[ComponentSpec, ...]
    hooks: tuple[str, ...]


def load(point: metadata.EntryPoint, origin: Origin) -> Plugin:
    """Loads one plugin and asks it for its components, in a pluggy manager of its own, so that every answer and failure is that plugin's."""
    with guarded(origin, f"importing the plugin {origin.plugin!r} of {origin}"), deprecated.attributed(origin):
        plugin = point.load()
        host = pluggy.PluginManager(GROUP)
        host.add_hookspecs(hookspecs)
        try:
            host.register(plugin, point.name)
        except pluggy.PluginValidationError as error:
            raise PluginError(f"{point.value}: {_one_line(error)}") from error
        callers = host.get_hookcallers(plugin) or []
        unknown = sorted(caller.name for caller in callers if not caller.has_spec())
        if unknown:
            guess = nearest(unknown[0], hook_names())
            known = f"did it mean {guess!r}?" if guess else f"the hooks are: {', '.join(hook_names())}"
            raise PluginError(f"{point.value} implements an unknown hook {unknown[0]!r}; {known}")
        if not callers:
            raise PluginError(f"{point.value} implements no hook (is @hookimpl missing?)")
        lifecycle = tuple(sorted(caller.name for caller in callers if caller.name != QUESTION))
        asked = len(lifecycle) < len(callers)
        return Plugin(origin, host, tuple(_specs(point, host)) if asked else (), lifecycle)


def _specs(point: metadata.EntryPoint, host: pluggy.PluginManager) -> Iterator[ComponentSpec]:
    answers = host.hook.ibllm_components()  # pluggy leaves an answer of None out
    if not answers:
        raise PluginError(f"{point.value}: ibllm_components gave None, expected an iterable of ComponentSpec")
    function = host.hook.ibllm_components.get_hookimpls()[0].function
    for spec in answers[0]:
        if not isinstance(spec, ComponentSpec):
            raise PluginError(f"{point.value}: ibllm_components gave {spec!r}, expected a ComponentSpec")
        if not isinstance(spec.api, int):
            raise PluginError(f"{point.value}: ibllm_components gave {spec.kind}.{spec.name} with api = {spec.api!r}, expected an integer")
        deprecated.check_api(spec, function)
        yield spec


def hook_names() -> list[str]:
    """All hooks there are."""
    return sorted(name for name in vars(hookspecs) if name.startswith(f"{GROUP}_"))


def import_object(path: str, what: str, origin: Origin) -> object:
    """What ``module:name`` stands for; raises `PluginError` with the cause where a plugin's module cannot be imported."""
    module, _, attribute = path.partition(":")
    try:
        with guarded(origin, f"importing {what} of {origin}, {path},"):
            return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except (Exception, SystemExit, Stuck) as error:
        more = f"; {remedy(error, origin)}" if isinstance(error, Stuck | ModuleNotFoundError) else ""
        raise PluginError(f"{origin}: {what}, {path}, cannot be imported: {cause(error)}{more}") from error


@contextlib.contextmanager
def guarded(origin: Origin, what: str) -> Iterator[None]:
    """A stranger's code runs within: it cannot wait for ever, nor write into a command's output (``--json``)."""
    with watch(what, remedy(Stuck(), origin)), stdout_to_stderr(origin):
        yield


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
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ValueError):  # no such descriptor: nothing can be written to it either
            sys.stdout.flush()
            kept = os.dup(1)
            stack.callback(os.close, kept)
            os.dup2(2, 1)
            stack.callback(os.dup2, kept, 1)
        said = stack.enter_context(contextlib.redirect_stdout(_Named(origin)))
        stack.callback(said.end)
        yield


def cause(error: BaseException) -> str:
    """One line: the exception's type, its message, and the line of the plugin that raised it."""
    if isinstance(error, PluginError):
        return str(error)
    text = f"{type(error).__name__}: {_one_line(error)}"
    machinery = ("<frozen importlib", importlib.__file__, metadata.__file__, contextlib.__file__, str(Path(__file__).parent))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(machinery)]
    return text if isinstance(error, SyntaxError) or not frames else f"{text} ({frames[-1].filename}:{frames[-1].lineno})"


def remedy(error: BaseException, origin: Origin) -> str:
    """What a user can do about a plugin that failed to load."""
    block = f"leave the plugin out with {BLOCK}={origin.plugin}"
    if isinstance(error, Stuck):
        return f"{block}, or give it more time with {TIMEOUT}=SECONDS"
    own = origin.value.partition(":")[0].partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] != own:
        return f"{origin} needs {error.name}: install it, or all it needs with pip install --upgrade {origin.distribution}; or {block}"
    return f"upgrade or uninstall {origin.distribution}, or {block}"


def file_of(value: str) -> str:
    """The file that an entry point's ``module[:object]`` is in, found without importing it; empty where there is none."""
    package, *rest = value.partition(":")[0].strip().split(".")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return ""
    if spec is None or not rest:
        return (spec.origin or "") if spec else ""
    for folder in spec.submodule_search_locations or ():
        stem = Path(folder, *rest)
        for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
            if path.is_file():
                return str(path)
    return ""


def origin_of(point: metadata.EntryPoint) -> Origin:
    return Origin(point.name, point.value, *identity(point.dist))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
