"""Where the runs of a study are computed: what a launcher is, and how one is found by its name. Torch-free.

A launcher is no part of a recipe: it changes where a run is computed, never what comes of it. Packages register theirs in the entry-point group
``ibllm.launchers``, as ``NAME = "module:Class"``.
"""

from __future__ import annotations

import os
import time
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import ClassVar

import attrs

from ibllm_core.errors import UserError, suggestion
from ibllm_core.host.attribution import running
from ibllm_core.host.entry_points import block_of, origin_of, registered
from ibllm_core.host.options import Config
from ibllm_core.recipe.words import structure

#: The entry points of launchers.
LAUNCHERS = "ibllm.launchers"
#: The one that is taken where none is named.
LOCAL = "local"


@attrs.frozen(kw_only=True)
class Task:
    """One run to be computed.

    Attributes:
        name: of a file's sort; no two of a study share it.
        command: what is executed, the program first. It stops with a checkpoint on SIGTERM, and when its standard input ends.
        log: the file that its output is added to.
        threads: that it computes with.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    threads: int = 1


@attrs.frozen(kw_only=True)
class Ended:
    """How a task ended.

    Attributes:
        code: its exit code, negative the signal that killed it; None where it was lost together with its machine: it may be tried again.
        reason: why it was lost, in words.
    """

    code: int | None
    reason: str = ""


@attrs.frozen(kw_only=True)
class Place:
    """What a study tells its launcher.

    Attributes:
        folder: where the launcher may keep files of its own; every machine sees the study's directory under the same path.
        jobs: tasks at a time; None where nobody said.
        devices: of this machine that tasks may use, ``cpu`` or ``cuda:0``.
        threads: that every task computes with.
    """

    folder: Path
    jobs: int | None = None
    devices: tuple[str, ...] = ("cpu",)
    threads: int = 1


class Launcher(ABC):
    """Computes tasks somewhere, several at a time. Whatever happens, a task's own locks keep it from being computed twice at once.

    It is made as ``Class(options, place)``, where `options` is an instance of its `options_class`.
    """

    options_class: ClassVar[type[Config]]
    #: Tasks at a time.
    jobs: int = 1
    #: Seconds before a task that another invocation is at is tried again.
    again: float = 3.0

    @abstractmethod
    def start(self, task: Task) -> None:
        """Computes a task, or hands it over to be computed. One of the same name that is on its way since an earlier invocation may be taken up."""

    @abstractmethod
    def ended(self) -> Mapping[str, Ended]:
        """Name → how it ended, of the tasks that ended since this was last asked. Called often: it does not wait."""

    @abstractmethod
    def stop(self, name: str, now: bool = False) -> None:
        """Asks a task to stop with a checkpoint; `now`: ends it, and returns once it is gone."""

    def begun(self, name: str) -> bool:
        """Whether the task is being computed; False while it waits for a machine."""
        return True

    def wait(self, seconds: float) -> None:
        """Returns after so many seconds, or as soon as a task has ended."""
        time.sleep(seconds)

    def close(self) -> None:  # noqa: B027  # most have nothing to do
        """Nobody asks for anything any more."""


def launchers() -> dict[str, metadata.EntryPoint]:
    """The launchers that packages have registered and nobody blocked, by name."""
    return {point.name: point for point in sorted(registered(LAUNCHERS), key=lambda point: point.name) if not block_of(point)}


def launcher_class(name: str) -> type[Launcher]:
    """A launcher's class. Raises `UserError` where there is none of that name, or it cannot be imported."""
    known = launchers()
    if name not in known:
        raise UserError(f"no launcher is called {name!r}; {suggestion(name, known)}")
    origin = origin_of(known[name])
    with running(origin, f"{origin}: the launcher {name}, {known[name].value}, cannot be imported", importing=known[name].value):
        found = known[name].load()
    if not (isinstance(found, type) and issubclass(found, Launcher)):
        raise UserError(f"{origin}: {known[name].value} is no class deriving from {__name__}.Launcher")
    return found


def make_launcher(name: str, said: Iterable[str], place: Place) -> Launcher:
    """A launcher with its options.

    Args:
        said: ``KEY=VALUE``, the values as TOML has them; what is no TOML is a string.

    Raises:
        UserError: there is no such launcher, what it needs is not installed, or an option is wrong; all of them at once.
    """
    cls = launcher_class(name)
    found = structure(cls.options_class, dict(_option(text) for text in said))
    if isinstance(found, list):
        wrong = "; ".join(
            f"{'.'.join(map(str, one.path))}: {one.what}" + (f", expected {one.expected}" if one.expected else "") for one in found
        )
        raise UserError(f"--launch: {name}: {wrong}")
    made: Launcher = cls(found, place)  # type: ignore[call-arg]
    return made


def _option(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--launch {text}: expected KEY=VALUE")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value


def environment(threads: int) -> dict[str, str]:
    """The environment of a task: this one's, and no more threads than its study says."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
