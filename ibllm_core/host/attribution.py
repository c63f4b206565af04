"""An error in the middle of a run: which component of the recipe it came from. Torch-free."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

import attrs

from ..errors import UserError

if TYPE_CHECKING:
    from ..recipe.schema import Component, Recipe

#: Not a component's fault, wherever they happen.
_NOBODYS = ("OutOfMemoryError", "MemoryError")


class ComponentFailed(UserError):
    """A component raised while it was used; the message names it, its place in the recipe, its provider, and its file and line."""


class WrongAnswer(Exception):
    """A component gave what its interface does not allow. `key` is its path in the recipe; who knows the recipe names it (`explained`)."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key, self.problem = key, problem


@attrs.frozen
class Culprit:
    """Where an error came from: `key` is the component's path in the recipe, `where` the file and line."""

    key: str
    component: Component
    where: str

    def __str__(self) -> str:
        found = self.component
        return f"{found.place}: {self.key} = {found.use} (provided by {found.distribution} {found.version})"

    @property
    def remedy(self) -> str:
        """What a user can do."""
        return remedy(self.component)


def remedy(component: Component) -> str:
    """What a user can do about a component that does not do what it should."""
    return f"tell the maintainer of {component.distribution}, upgrade it, or use another {component.kind}"


def culprit(error: BaseException, recipe: Recipe) -> Culprit | None:
    """The component whose module the error passed through first; None where there was none, or memory ran out.

    Where several components share that module, the first of them whose factory, or whose object, the error passed through.
    """
    if type(error).__name__ in _NOBODYS:
        return None
    frames = _frames(error.__traceback__)
    for module, where, _ in frames:
        found = components_in(module, recipe)
        if found:
            return Culprit(*_passed_through(frames, found), where)
    return None


def _passed_through(frames: list[_Frame], candidates: list[tuple[str, Component]]) -> tuple[str, Component]:
    for _, _, names in frames:
        for path, component in candidates:
            factory = component.spec.factory
            if any(f"{name}.".startswith(f"{factory}.") for name in names):
                return path, component
    return candidates[0]


def component_in(module: str, recipe: Recipe) -> tuple[str, Component] | None:
    """The first of `components_in`; None where there is none."""
    return next(iter(components_in(module, recipe)), None)


def components_in(module: str, recipe: Recipe) -> list[tuple[str, Component]]:
    """The components, with their paths, that a module belongs to: by their factories' module, else by the package that this is in."""
    components = recipe.components().items()
    for depth in range(module.count(".") + 1, 0, -1):
        prefix = ".".join(module.split(".")[:depth])
        found = [(path, c) for path, c in components if f"{c.spec.factory.partition(':')[0]}.".startswith(f"{prefix}.")]
        if found:
            return found
    return []


def explained(error: BaseException, recipe: Recipe) -> BaseException:
    """The error as a user should see it: one that a component raised names the component; any other one is as it was."""
    if isinstance(error, WrongAnswer):
        component = recipe.components()[error.key]
        return _told(f"{Culprit(error.key, component, '')}: {error.problem}; {remedy(component)}", error)
    if isinstance(error, UserError) or not isinstance(error, Exception | SystemExit):
        return error
    found = culprit(error, recipe)
    if found is None:
        return error
    return _told(f"{found} raised {type(error).__name__}: {error} ({found.where}); {found.remedy}", error)


def _told(message: str, error: BaseException) -> ComponentFailed:
    told = ComponentFailed(message)
    told.__cause__ = error
    return told


@contextmanager
def naming(recipe: Recipe) -> Iterator[None]:
    """Raises what happens within as `explained`."""
    try:
        yield
    except (Exception, SystemExit) as error:
        told = explained(error, recipe)
        if told is error:
            raise
        raise told from error


def traceback_of(error: BaseException) -> str:
    """The traceback with its causes, for whoever has to find the fault."""
    return "".join(traceback.format_exception(error))


def communicating(error: BaseException) -> bool:
    """True where the error came from talking to other processes, before any module of ours or of a plugin was passed."""
    modules = [module for module, *_ in _frames(error.__traceback__)]
    return bool(modules) and next((m for m in modules if not m.startswith("torch.") or m.startswith("torch.distributed")), "").startswith(
        "torch.distributed"
    )


#: module, ``file:line``, and ``module:qualified.name`` of the function and of the class of the object that it is a method of.
_Frame = tuple[str, str, tuple[str, ...]]


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
