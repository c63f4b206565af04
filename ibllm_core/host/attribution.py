"""Whose code is running, and what is said when it fails: component or plugin, distribution, version, cause, remedy. Torch-free.

`running` and `building` stand around code that is known to be somebody's: a plugin's, a command's, a component's. `naming` finds out afterwards, from
the traceback, which component of a recipe an error came from.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
import traceback
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import attrs

from ..errors import UserError
from .entry_points import BLOCK, PLUGINS, Origin
from .output import stdout_to_stderr

if TYPE_CHECKING:
    from ..recipe.schema import Component, Recipe

#: Seconds after which a line says what is still being imported.
PATIENCE = 10.0
#: What is being imported, the innermost last.
_IMPORTING: list[str] = []
#: Not a component's fault, wherever they happen.
_NOBODYS = ("OutOfMemoryError", "MemoryError")
#: Where an error may happen that is the fault of who called them.
_LIBRARIES = ("torch", "numpy", "attr", "click")


class PluginError(UserError):
    """A component exists but cannot be used; the message names its distribution and the cause."""


class Fault(PluginError):
    """A plugin's own code raised: `cause` is its error in one line, `remedy` what helps."""

    def __init__(self, who: str, cause: str, remedy: str) -> None:
        super().__init__(f"{who}: {cause}; {remedy}")
        self.cause, self.remedy = cause, remedy


class ComponentFailed(UserError):
    """A component raised while it was used; the message names it, its place in the recipe, its provider, and what helps.

    Args:
        key: the component's path in the recipe.
        problem: what it did; after a colon, unless it is a verb (``raised …``).
        users: it is the options that are wrong, not the component: nothing is said of its maintainer.
    """

    def __init__(self, component: Component, key: str, problem: str, users: bool = False) -> None:
        whose = Culprit(key, component)
        helps = "" if users else f"; {whose.remedy}"
        super().__init__(f"{whose}{'' if problem.startswith('raised ') else ':'} {problem}{helps}")


class BuildError(ComponentFailed):
    """A component that could not be built or does not keep its contract."""

    def __init__(self, component: Component, key: str, problem: str, users: bool = False) -> None:
        super().__init__(component, key, problem, users or component.distribution == "ibllm")


class WrongAnswer(Exception):
    """A component gave what its interface does not allow. `key` is its path in the recipe; who knows the recipe names it (`explained`)."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key, self.problem = key, problem


@attrs.frozen
class Culprit:
    """Whose fault something is: `key` is the component's path in the recipe."""

    key: str
    component: Component

    def __str__(self) -> str:
        found = self.component
        return f"{found.place}: {self.key} = {found.use} (provided by {found.distribution} {found.version})"

    @property
    def remedy(self) -> str:
        """What a user can do about a component that does not do what it should."""
        return f"tell the maintainer of {self.component.distribution}, upgrade it, or use another {self.component.kind}"


@contextlib.contextmanager
def running(origin: Origin, who: str = "", importing: str = "") -> Iterator[None]:
    """Code of `origin` runs within: what it prints goes to standard error under its name, and what it raises, `SystemExit` too, becomes a `Fault`.

    Args:
        who: what the message begins with; the distribution and its version where nothing is said.
        importing: the module that is imported, if one is (see `waiting`).
    """
    try:
        with (
            stdout_to_stderr(str(origin)),
            waiting(f"{importing} from {origin.distribution} {origin.version}") if importing else contextlib.nullcontext(),
        ):
            yield
    except (Exception, SystemExit) as error:
        raise Fault(who or str(origin), cause(error), remedy(error, origin)) from error


@contextlib.contextmanager
def building(component: Component, key: str, where: str = "", also: str = "", users: bool = False) -> Iterator[None]:
    """Code of a recipe's component runs within; what it raises, `SystemExit` too, becomes a `BuildError`.

    Args:
        where, also: said before and after the cause.
        users: a `UserError` means that the options are wrong, not the component.
    """
    try:
        with stdout_to_stderr(f"{component.distribution}=={component.version}"):
            yield
    except BuildError:  # of a component within
        raise
    except (Exception, SystemExit) as error:
        raise BuildError(component, key, f"{where}{cause(error)}{also}", users and isinstance(error, UserError)) from error


@contextlib.contextmanager
def waiting(imported: str) -> Iterator[None]:
    """Something is imported within: where this takes long, a line on standard error says so. Many imports within one share its thread."""
    done = threading.Event()
    outermost = not _IMPORTING
    _IMPORTING.append(imported)
    if outermost:
        threading.Thread(target=_say_what_takes_long, args=(done,), daemon=True).start()
    try:
        yield
    finally:
        _IMPORTING.pop()
        done.set()


def _say_what_takes_long(done: threading.Event) -> None:
    said = ""
    while not done.wait(PATIENCE):
        now = "".join(_IMPORTING[-1:])
        if now != said:
            said = now
            print(f"still importing {now}", file=sys.stderr, flush=True)


def cause(error: BaseException) -> str:
    """One line: the exception's type, its message, and the line of the plugin that raised it."""
    if isinstance(error, UserError):
        return str(error)
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    machinery = ["<frozen importlib", importlib.__file__, metadata.__file__, contextlib.__file__, str(Path(__file__).parent)]
    machinery += [str(Path(str(sys.modules[name].__file__)).parent) for name in _LIBRARIES if name in sys.modules]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(tuple(machinery))]
    return text if isinstance(error, SyntaxError) or not frames else f"{text} ({frames[-1].filename}:{frames[-1].lineno})"


def remedy(error: BaseException, origin: Origin) -> str:
    """What a user can do about a plugin, or a command, that failed to load."""
    out = f"leave the plugin out with {BLOCK}={origin.plugin}" if origin.group == PLUGINS else f"uninstall {origin.distribution}"
    own = origin.value.partition(":")[0].partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] != own:
        return f"{origin} needs {error.name}: install it, or all it needs with pip install --upgrade {origin.distribution}; or {out}"
    return f"upgrade or uninstall {origin.distribution}" + (f", or {out}" if origin.group == PLUGINS else "")


@contextlib.contextmanager
def within(key: str) -> Iterator[None]:
    """What is raised within comes from the component whose path in the recipe is `key`, whatever library's lines it passed; the innermost one counts."""
    try:
        yield
    except Exception as error:
        vars(error).setdefault("ibllm_component", key)
        raise


@contextlib.contextmanager
def naming(recipe: Recipe) -> Iterator[None]:
    """Raises what happens within as `explained`."""
    try:
        yield
    except (Exception, SystemExit) as error:
        told = explained(error, recipe)
        if told is error:
            raise
        raise told from error


def explained(error: BaseException, recipe: Recipe) -> BaseException:
    """The error as a user should see it: one that a component raised names the component; any other one is as it was."""
    if isinstance(error, WrongAnswer):
        told = ComponentFailed(recipe.components()[error.key], error.key, error.problem)
    elif isinstance(error, UserError) or not isinstance(error, Exception | SystemExit) or type(error).__name__ in _NOBODYS:
        return error
    else:
        frames = _frames(error.__traceback__)
        last = frames[0][1] if frames else ""
        found, where = next(((_passed_through(frames, f), w) for m, w, _ in frames if (f := components_in(m, recipe))), (None, last))
        key = str(vars(error).get("ibllm_component", ""))
        found = (key, recipe.components()[key]) if key in recipe.components() else found
        if found is None:
            return error
        told = ComponentFailed(found[1], found[0], f"raised {type(error).__name__}: {error} ({where})")
    told.__cause__ = error
    return told


def components_in(module: str, recipe: Recipe) -> list[tuple[str, Component]]:
    """The components, with their paths, that a module belongs to: by their factories' module, else by the package that this is in."""
    components = recipe.components().items()
    for depth in range(module.count(".") + 1, 0, -1):
        prefix = ".".join(module.split(".")[:depth])
        found = [(path, c) for path, c in components if f"{c.spec.factory.partition(':')[0]}.".startswith(f"{prefix}.")]
        if found:
            return found
    return []


def traceback_of(error: BaseException) -> str:
    """The traceback with its causes, for whoever has to find the fault."""
    return "".join(traceback.format_exception(error))


def communicating(error: BaseException) -> bool:
    """True where the error came from talking to other processes, before any module of ours or of a plugin was passed."""
    modules = (module for module, *_ in _frames(error.__traceback__))
    return next((m for m in modules if not m.startswith("torch.") or m.startswith("torch.distributed")), "").startswith("torch.distributed")


#: module, ``file:line``, and ``module:qualified.name`` of the function and of the class of the object that it is a method of.
_Frame = tuple[str, str, tuple[str, ...]]


def _passed_through(frames: list[_Frame], candidates: list[tuple[str, Component]]) -> tuple[str, Component]:
    """Of components that share a module, the first whose factory, or whose object, the error passed through."""
    for _, _, names in frames:
        for path, component in candidates:
            if any(f"{name}.".startswith(f"{component.spec.factory}.") for name in names):
                return path, component
    return candidates[0]


def _frames(trace: TracebackType | None) -> list[_Frame]:
    """Every frame, the innermost first."""
    found = []
    while trace is not None:
        code, module = trace.tb_frame.f_code, str(trace.tb_frame.f_globals.get("__name__", ""))
        names = [f"{module}:{code.co_qualname}"]
        if code.co_varnames[:1] == ("self",) and "self" in trace.tb_frame.f_locals:
            owner = type(trace.tb_frame.f_locals["self"])
            names.insert(0, f"{owner.__module__}:{owner.__qualname__}")
        found.append((module, f"{code.co_filename}:{trace.tb_lineno}", tuple(names)))
        trace = trace.tb_next
    return found[::-1]
