"""What a run depends on that no version says: the source of packages that are no installed wheels, and other runs' weights. In run.json and in a study's
keys; a run goes on with others only where that is accepted.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import sys
import warnings
from collections.abc import Container, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import ibllm_core
from ibllm_core.errors import Notice, UserError
from ibllm_core.host.entry_points import file_of
from ibllm_core.host.manager import manager
from ibllm_core.recipe.locate import Dependency
from ibllm_core.recipe.schema import Recipe
from ibllm_core.runs.directory import RunDirectory
from ibllm_core.training.distributed import first_process
from ibllm_core.training.events import Listener, ModelBuilt, RunStarted

#: Folders whose packages are installed: their version says what they are.
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_IMPORT = re.compile(r"^[ \t]*(?:import[ \t]+(\w+)|from[ \t]+(\w+)[\w.]*[ \t]+import\b)", re.MULTILINE)
#: What type checkers alone read: a package that is imported there is not needed.
_UNREAD = re.compile(r"^if TYPE_CHECKING:\n(?:[ \t]+.*\n|\n)+", re.MULTILINE)
_ACCEPTED: ContextVar[frozenset[str]] = ContextVar("accepted", default=frozenset())


@contextlib.contextmanager
def accepting(**what: bool) -> Iterator[None]:
    """Within, a run goes on though its ``code`` (other runs' weights too) or its ``data`` have changed; what changed is recorded."""
    token = _ACCEPTED.set(frozenset(name for name, wanted in what.items() if wanted))
    try:
        yield
    finally:
        _ACCEPTED.reset(token)


def accepted(what: str) -> bool:
    """Whether that is accepted (`accepting`)."""
    return what in _ACCEPTED.get()


def sources(recipe: Recipe, but: Container[str] = ()) -> dict[str, str]:
    """What run.json keeps: import package, or run or file (of data none) that is read, → hash.

    Args:
        but: tables of the recipe, ``losses.cycle``, whose own needs are left out.
    """
    named = [one for one in recipe.dependencies if one.path[0] not in ("data", "unpaired") and ".".join(map(str, one.path[:2])) not in but]
    return code(recipe, but) | {str(one.where): hashed for one in named if (hashed := _contents(one))}


def code(recipe: Recipe, but: Container[str] = ()) -> dict[str, str]:
    """Import package → hash of its ``*.py`` files, tests and documentation left out.

    Of the packages that the core, the recipe's components (but for trackers) and its hooks are in or import, those that are edited where they lie:
    editable installations, folders on the path.
    """
    specs = [c.spec for path, c in recipe.components().items() if c.kind != "tracker" and ".".join(path.split(".")[:2]) not in but]
    left = [ibllm_core.__name__, *(path for spec in specs for path in (spec.factory, spec.config))]
    left += [manager(recipe.plugins.block).plugin(name).origin.value for name in recipe.plugins.hooks]
    found: dict[str, str] = {}
    while left:
        name = re.split("[.:]", left.pop())[0]
        if name not in found:
            found[name], imported = _package(name)
            left += imported
    return {name: found[name] for name in sorted(found) if found[name]}


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The packages and runs that both name and know otherwise."""
    return [name for name in before if name in now and before[name] != now[name]]


class Sources(Listener):
    """Writes what a run depends on into its record, and refuses to go on with another state of it unless that is accepted (`accepting`)."""

    everywhere = True

    def on_run_started(self, event: RunStarted) -> None:
        self._directory = RunDirectory(event.run_directory)
        try:
            self._record = goes_on(self._directory.info(), event.recipe, str(event.run_directory))
        except UserError as error:
            event.against.append(error)

    def on_model_built(self, event: ModelBuilt) -> None:
        if first_process():
            self._directory.update(**self._record)


def goes_on(info: Mapping[str, Any], recipe: Recipe, what: str) -> dict[str, Any]:
    """What is to be written into the run.json of a run that begins or goes on, given what it says.

    Raises:
        UserError: the source, or a run that weights are taken from, is another one, and this is not accepted. Runs started from may be gone.
    """
    now, before = sources(recipe), info.get("sources", {})
    starts = {str(one.where) for one in recipe.dependencies if one.path[-2:] == ("init", "run")}
    now |= {name: before[name] for name in starts & before.keys() if now.get(name) == "missing"}
    others = changed(before, now)
    if others and not accepted("code"):
        ways = "put it back, or go on with what is here now (--accept-code)"
        raise UserError(f"{what} was started with another state of {', '.join(others)}: {ways}")
    if "provenance" in info and "sources" not in info and now:
        warnings.warn(Notice(f"{what} does not say with which state of {', '.join(now)} it was started"), stacklevel=2)
    taken = [*info.get("accepted_code", []), {name: before[name] for name in others}]
    return {"sources": now, "accepted_code": taken} if others else {"sources": now}


@functools.cache
def _package(name: str) -> tuple[str, tuple[str, ...]]:
    """A top-level package's hash and what it imports; nothing of one that is installed. Read once a process, which imports it once too."""
    found = Path("" if name in sys.stdlib_module_names else file_of(name))
    if found.suffix != ".py" or _INSTALLED.intersection(found.parts):
        return "", ()
    files = found.parent.rglob("*.py") if found.name == "__init__.py" else [found]
    places = [place for file in files if not {"tests", "docs"}.intersection((place := file.relative_to(found.parent)).parts)]
    texts = [(place.as_posix(), (found.parent / place).read_bytes()) for place in sorted(places)]
    digest = hashlib.sha256(b"".join(f"{place}\0{len(text)}\0".encode() + text for place, text in texts)).hexdigest()[:16]
    read = (_UNREAD.sub("", text.decode(errors="replace")) for _, text in texts)
    return digest, tuple({one or other for text in read for one, other in _IMPORT.findall(text)})


def _contents(one: Dependency) -> str:
    """The hash of a file, or of what is taken from a run: its model, or (raw) the record of its newest checkpoint, which has hashes itself."""
    raw = sorted(one.where.glob("checkpoints/step-*/hashes.json"))[-1:] if one.weights == "raw" else []
    path = raw[0] if raw else one.where / "model" / "weights.safetensors" if one.kind == "run" else one.where
    if not path.is_file():
        return "missing" if one.kind == "run" else ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
