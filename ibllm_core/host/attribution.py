"""Whose code is running, where what it prints goes, and what is said when it fails: component or plugin, version, cause, remedy. Torch-free.

`running` and `building` stand around code that is known to be somebody's; `naming` finds out afterwards, from the traceback, whose an error is.
"""

from __future__ import annotations

import contextlib
import dis
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from ..errors import UserError, system_error
from .entry_points import BLOCK, OURS, PLUGINS, Origin

if TYPE_CHECKING:
    from ..recipe.locate import Component
    from ..recipe.schema import Recipe

#: Seconds after which a line says what is still being imported.
PATIENCE = 10.0
#: Not a component's fault, wherever they happen.
_NOBODYS = ("OutOfMemoryError", "MemoryError")
#: Modules in which an error may happen that is the fault of who called them.
_PASSED = ("importlib.", "contextlib.", "pkgutil.", "torch.", "numpy.", "attr.", "click.", f"{__package__}.")


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
        users: it is the options that are wrong, not the component. Nothing is then said of its maintainer, nor of ours.
    """

    def __init__(self, component: Component, key: str, problem: str, users: bool = False) -> None:
        whose = f"{component.place}: {key} = {component.use} (provided by {component.distribution} {component.version})"
        ours = users or component.distribution == OURS
        helps = "" if ours else f"; tell the maintainer of {component.distribution}, upgrade it, or use another {component.kind}"
        if component.kind in ("metric", "tracker"):
            helps += f"; a run does without it with --set {key}=false"
        if component.kind == "metric":
            helps += f", ibllm evaluate with --without {key.partition('.')[2]}"
        joined = f"{whose} {problem}" if problem.startswith("raised ") else f"{whose}: {problem}"
        super().__init__(joined + helps)


class WrongAnswer(Exception):
    """A component gave what its interface does not allow. `key` is its path in the recipe; who knows the recipe names it (`explained`)."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key, self.problem = key, problem


@contextlib.contextmanager
def running(origin: Origin, who: str = "", importing: str = "") -> Iterator[None]:
    """Code of `origin` runs within: what it prints goes to standard error under its name, and what it raises, `SystemExit` too, becomes a `Fault`.

    Args:
        who: what the message begins with; the distribution and its version where nothing is said.
        importing: the module that is imported, if one is: where this takes long, a line on standard error says so.
    """
    told = f"still importing {importing} from {origin.distribution} {origin.version}"
    timer = threading.Timer(PATIENCE, print, (told,), {"file": sys.stderr, "flush": True})
    timer.daemon = True
    try:
        if importing:
            timer.start()
        with stdout_to_stderr(str(origin)):
            yield
    except (Exception, SystemExit) as error:
        raise Fault(who or str(origin), cause(error), remedy(error, origin)) from error
    finally:
        timer.cancel()


@contextlib.contextmanager
def building(component: Component, key: str, where: str = "", also: str = "", users: bool = False) -> Iterator[None]:
    """Code of a recipe's component runs within; what it raises, `SystemExit` too, becomes a `ComponentFailed`.

    Args:
        where, also: said before and after the cause.
        users: a `UserError`, and a ``raise ValueError`` of the component's own package, means that the options are wrong, not the component.
    """
    try:
        with stdout_to_stderr(f"{component.distribution}=={component.version}"):
            yield
    except ComponentFailed:  # of a component within
        raise
    except (Exception, SystemExit) as error:
        users = users and (isinstance(error, UserError) or (isinstance(error, ValueError) and _says_raise(error, component)))
        raise ComponentFailed(component, key, f"{where}{str(error) if users else cause(error)}{also}", users) from error


def _says_raise(error: BaseException, component: Component) -> bool:
    """True where a line of the component's package raised the error itself; what compiled code raises has that line innermost too."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    frame = last and last.tb_frame
    own = frame and str(frame.f_globals.get("__name__")).partition(".")[0] == re.split("[.:]", component.spec.factory)[0]
    return bool(last and frame and own and dis.opname[frame.f_code.co_code[last.tb_lasti]] == "RAISE_VARARGS")


def cause(error: BaseException) -> str:
    """One line: the exception's type, its message, and the line of the plugin that raised it."""
    if (users := error if isinstance(error, UserError) else system_error(error)) is not None:
        return str(users)
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    places = [place for module, place, _ in _frames(error) if not f"{module}.".startswith(_PASSED)]
    return text if isinstance(error, SyntaxError) or not places else f"{text} ({places[0]})"


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
        shown = explained(error, recipe)
        if shown is error:
            raise
        raise shown from error


def explained(error: BaseException, recipe: Recipe) -> BaseException:
    """The error as a user should see it: one that a component raised names the component; what the system refuses is nobody's; any other is as it was."""
    if (refused := system_error(error)) is not None:
        return refused
    components = recipe.components()
    if isinstance(error, WrongAnswer):
        key, problem = error.key, error.problem
    elif isinstance(error, UserError) or not isinstance(error, Exception | SystemExit) or type(error).__name__ in _NOBODYS:
        return error
    else:
        key, place = _came_from(error, recipe)
        problem = f"raised {type(error).__name__}: {error} ({place})"
    if key not in components:
        return error
    shown = ComponentFailed(components[key], key, problem)
    shown.__cause__ = error
    return shown


def _came_from(error: BaseException, recipe: Recipe) -> tuple[str, str]:
    """The component that an error came from, and the line of its code, else the last one; an empty key where it is nobody's."""
    frames = _frames(error)
    candidates, place = next(
        ((found, place) for module, place, _ in frames if (found := components_in(module, recipe))), ([], frames[0][1] if frames else "")
    )
    key = str(vars(error).get("ibllm_component", ""))
    if key in recipe.components() or not candidates:
        return key, place
    # Of components that share a module, the first whose factory, or whose object, the error passed through.
    passed = (key for *_, frame in frames for key, c in candidates if any(f"{n}.".startswith(f"{c.spec.factory}.") for n in _names(frame)))
    return next(passed, candidates[0][0]), place


def components_in(module: str, recipe: Recipe) -> list[tuple[str, Component]]:
    """The components, with their paths, that a module belongs to: by their factories' module, else by the package that this is in."""
    components = recipe.components().items()
    for depth in range(module.count(".") + 1, 0, -1):
        prefix = ".".join(module.split(".")[:depth])
        found = [(path, c) for path, c in components if f"{c.spec.factory.partition(':')[0]}.".startswith(f"{prefix}.")]
        if found:
            return found
    return []


#: Modules of torch in which processes talk to each other.
_TALKS = ("torch.distributed", "torch.nn.parallel")


def communicating(error: BaseException) -> bool:
    """True where the error came from talking to other processes, before any module of ours or of a plugin was passed.

    Gradients are sent in the midst of a backward pass, where torch's engine has no frame of its own: there the error's text says it.
    """
    if isinstance(error, RuntimeError) and re.search(r"gloo/|NCCL|ProcessGroup", str(error)):
        return True
    modules = (module for module, *_ in _frames(error))
    return next((m for m in modules if not m.startswith("torch.") or m.startswith(_TALKS)), "").startswith(_TALKS)


def _frames(error: BaseException) -> list[tuple[str, str, FrameType]]:
    """(module, ``file:line``, frame), the innermost first."""
    frames = list(traceback.walk_tb(error.__traceback__))[::-1]
    return [(str(frame.f_globals.get("__name__", "")), f"{frame.f_code.co_filename}:{line}", frame) for frame, line in frames]


def _names(frame: FrameType) -> tuple[str, str]:
    """``module:qualified.name`` of the function, and of the class of the object that it is a method of."""
    owner = type(frame.f_locals.get("self"))
    return f"{frame.f_globals.get('__name__')}:{frame.f_code.co_qualname}", f"{owner.__module__}:{owner.__qualname__}"


@contextlib.contextmanager
def stdout_to_stderr(name: str = "") -> Iterator[None]:
    """What is printed within, in whichever thread and by child processes too, goes to standard error.

    Args:
        name: put before each line that Python code prints.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ValueError):  # no such descriptor: nothing can be written to it either
            sys.stdout.flush()
            kept = os.dup(1)
            stack.callback(os.close, kept)
            os.dup2(2, 1)
            stack.callback(os.dup2, kept, 1)
        said: Any = stack.enter_context(_Named(name)) if name else sys.stderr
        stack.enter_context(contextlib.redirect_stdout(said))
        yield


class _Named:
    """Standard error, each line behind a name; at the end a line that was left open is ended."""

    def __init__(self, name: str) -> None:
        self._head, self._fresh = f"[{name}] ", True

    def write(self, text: str) -> int:
        for line in text.splitlines(keepends=True):
            sys.stderr.write(self._head + line if self._fresh else line)
            self._fresh = line.endswith("\n")
        return len(text)

    def __enter__(self) -> _Named:
        return self

    def __exit__(self, *_: object) -> None:
        self.write("" if self._fresh else "\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)
