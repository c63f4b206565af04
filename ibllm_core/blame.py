"""An error in the middle of a run: which component of the recipe it came from. Torch-free."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import attrs

from .errors import UserError
from .recipe.schema import Component, Recipe

#: Not a component's fault, wherever they happen.
_NOBODYS = ("OutOfMemoryError", "MemoryError")


class ComponentFailed(UserError):
    """A component raised while it was used; the message names it, its place in the recipe, its provider, and its file and line."""


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
        found = self.component
        return f"tell the maintainer of {found.distribution}, upgrade it, or use another {found.kind}"


def culprit(error: BaseException, recipe: Recipe) -> Culprit | None:
    """The component whose module the error passed through first; None where there was none, or memory ran out."""
    if type(error).__name__ in _NOBODYS:
        return None
    for module, where in _frames(error.__traceback__):
        found = component_in(module, recipe)
        if found is not None:
            return Culprit(*found, where)
    return None


def component_in(module: str, recipe: Recipe) -> tuple[str, Component] | None:
    """The component, with its path, that a module belongs to: by its factory's module, else by the package that this is in."""
    components = recipe.components().items()
    for depth in range(module.count(".") + 1, 0, -1):
        prefix = ".".join(module.split(".")[:depth])
        for path, component in components:
            if f"{component.spec.factory.partition(':')[0]}.".startswith(f"{prefix}."):
                return path, component
    return None


def explained(error: BaseException, recipe: Recipe) -> BaseException:
    """The error as a user should see it: one that a component raised names the component; any other one is as it was."""
    if isinstance(error, UserError) or not isinstance(error, Exception):
        return error
    found = culprit(error, recipe)
    if found is None:
        return error
    told = ComponentFailed(f"{found} raised {type(error).__name__}: {error} ({found.where}); {found.remedy}")
    told.__cause__ = error
    return told


@contextmanager
def naming(recipe: Recipe) -> Iterator[None]:
    """Raises what happens within as `explained`."""
    try:
        yield
    except Exception as error:
        told = explained(error, recipe)
        if told is error:
            raise
        raise told from error


def traceback_of(error: BaseException) -> str:
    """The traceback with its causes, for whoever has to find the fault."""
    return "".join(traceback.format_exception(error))


def communicating(error: BaseException) -> bool:
    """True where the error came from talking to other processes, before any module of ours or of a plugin was passed."""
    modules = [module for module, _ in _frames(error.__traceback__)]
    return bool(modules) and next((m for m in modules if not m.startswith("torch.") or m.startswith("torch.distributed")), "").startswith(
        "torch.distributed"
    )


def _frames(trace: TracebackType | None) -> list[tuple[str, str]]:
    """(module, ``file:line``) of every frame, the innermost first."""
    found = []
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append((str(trace.tb_frame.f_globals.get("__name__", "")), f"{code.co_filename}:{trace.tb_lineno}"))
        trace = trace.tb_next
    return found[::-1]
