"""What a run's data are: a fingerprint that changes with their content, in run.json and in a study's keys; and what has changed where a run goes on.

Data that lie in files say in their options what they hold (`Contents`). Data that are made have no content beside their options and the code that makes
them, which a run's record and a study's keys hold anyway.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import attrs

from ibllm_core.errors import UserError
from ibllm_core.recipe.locate import Component
from ibllm_core.recipe.schema import Recipe
from ibllm_core.recipe.words import keys
from ibllm_core.runs.directory import RunDirectory, replacing
from ibllm_core.training.events import Listener, ModelBuilt, Prepared, RunStarted

from .resolved import options
from .sources import accepted, code

if TYPE_CHECKING:
    from ibllm_core.training.session import Session

#: The file of a run directory that says what each item was.
ITEMS = "data.json.gz"
#: Item's name and the hash of what it holds.
Item = tuple[str, str]
#: Of runs that are under way.
_OF: WeakKeyDictionary[Session, dict[str, Print]] = WeakKeyDictionary()
_REMEMBERED: ContextVar[dict[Any, Print] | None] = ContextVar("remembered", default=None)


@runtime_checkable
class Contents(Protocol):
    """A dataset's options that know what lies in its files."""

    def contents(self) -> Sequence[Item]:
        """Every item, in the data's order: a name that says which it is (its image's path within the data), and a hash of all that it holds."""


@attrs.frozen
class Print:
    """A fingerprint of some data: `digest`, and what it was made of; `items` is None for data that are made by code."""

    digest: str
    items: Sequence[Item] | None = None


def prints(recipe: Recipe) -> dict[str, Print]:
    """Place in the recipe (``data``, ``unpaired.text``) → the fingerprint of the data there. Reads every file that is not known yet."""
    found = {"data": recipe.data, **{f"unpaired.{name}": component for name, component in recipe.unpaired.items()}}
    return {place: _print(recipe, component) for place, component in found.items()}


def of_session(session: Session) -> dict[str, Print]:
    """The same of a run, looked up once for all who ask."""
    if session not in _OF:
        _OF[session] = prints(session.recipe)
    return _OF[session]


def of_files(recipe: Recipe) -> dict[str, str]:
    """Place in the recipe → digest, of the data that lie in files alone: for what knows options and code already."""
    components = {"data": recipe.data, **{f"unpaired.{name}": one for name, one in recipe.unpaired.items()}}
    return {place: _print(recipe, one).digest for place, one in components.items() if isinstance(one.config, Contents)}


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Within, equal options are looked up once: a study has many runs on the same data."""
    token = _REMEMBERED.set({} if _REMEMBERED.get() is None else _REMEMBERED.get())
    try:
        yield
    finally:
        _REMEMBERED.reset(token)


def _print(recipe: Recipe, component: Component) -> Print:
    known, key = _REMEMBERED.get(), (component.use, component.config)
    if known is not None and key in known:
        return known[key]
    places = {key for key, field in keys(type(component.config)).items() if field.metadata.get("path")}
    own = {name: value for name, value in options(component.config).items() if name not in places}  # moving a folder changes nothing
    said: list[Any] = [str(component), component.version, own]
    if isinstance(component.config, Contents):
        items: list[Item] = [(name, content) for name, content in component.config.contents()]
        found = Print(_digest([*said, items]), items)
    else:
        package = component.spec.factory.partition(":")[0].partition(".")[0]
        found = Print(_digest([*said, code(recipe).get(package, "")]))
    if known is not None:
        known[key] = found
    return found


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=True).encode()).hexdigest()[:16]


def differences(before: Sequence[Item], now: Sequence[Item]) -> list[str]:
    """What became of some items, in words: ``2 added (b.png, c.png)``. Of equal names the first belongs to the first."""
    old, new = _by_name(before), _by_name(now)
    added, removed = ([name for name in some if name not in others] for some, others in ((new, old), (old, new)))
    edited = [name for name in old if name in new and old[name] != new[name]]
    found = [
        f"{len(names)} {what} ({_named(names)})" for what, names in (("added", added), ("removed", removed), ("edited", edited)) if names
    ]
    return found or (["the order of the items"] if list(old) != list(new) else [])


def _by_name(items: Sequence[Item]) -> dict[tuple[str, int], str]:
    count: Counter[str] = Counter()
    found = {}
    for name, content in items:
        found[name, count[name]] = content
        count[name] += 1
    return found


def _named(names: Sequence[tuple[str, int]], most: int = 2) -> str:
    return ", ".join(name for name, _ in names[:most]) + (", …" if len(names) > most else "")


def changed(directory: RunDirectory, now: Mapping[str, Print]) -> dict[str, str]:
    """Place in the recipe → what is otherwise than when the run was started, in words; of data that lie in files alone."""
    before, kept = directory.info().get("fingerprint", {}), _read(directory / ITEMS)
    found = {}
    for place, one in now.items():
        if one.items is not None and place in before and before[place] != one.digest:
            told = differences(kept[place], one.items) if place in kept else ["it is not known how"]
            found[place] = "; ".join(told or ["its options"])
    return found


def _read(path: Path) -> dict[str, list[Item]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return {place: [(str(name), str(content)) for name, content in items] for place, items in json.load(file).items()}
    except (OSError, ValueError, EOFError, AttributeError, TypeError):
        return {}


def _write(path: Path, found: Mapping[str, Print]) -> None:
    items = {place: one.items for place, one in found.items() if one.items is not None}
    if items:
        with replacing(path) as partial, gzip.open(partial, "wt", encoding="utf-8") as file:
            json.dump(items, file)


class DataPrints(Listener):
    """Writes the fingerprint of a run's data into its record, and refuses to go on with others unless they are accepted (`ibllm.sources.accepting`)."""

    def on_run_started(self, event: RunStarted) -> None:
        self._directory = RunDirectory(event.run_directory)

    def on_prepared(self, event: Prepared) -> None:
        self._found, info = of_session(event.session), self._directory.info()
        self._accepted: list[dict[str, str]] = info.get("accepted_data", [])
        if others := changed(self._directory, self._found):
            said = "; ".join(f"{place}: {what}" for place, what in others.items())
            if not accepted("data"):
                ways = "put them back, or go on with what is here now (--accept-data)"
                event.against.append(UserError(f"{self._directory.path} was started with other data ({said}): {ways}"))
                return
            event.session.tell(f"{self._directory.path} goes on with other data ({said})")
            self._accepted = [*self._accepted, {place: info["fingerprint"][place] for place in others}]
        lacking = [place for place, one in self._found.items() if one.items is not None and place not in info.get("fingerprint", {})]
        if lacking and info.get("stages"):
            event.session.tell(f"{self._directory.path} does not say with which content of {', '.join(lacking)} it was started")

    def on_model_built(self, event: ModelBuilt) -> None:
        accepted = {"accepted_data": self._accepted} if self._accepted else {}
        self._directory.update(fingerprint={place: one.digest for place, one in self._found.items()}, **accepted)
        _write(self._directory / ITEMS, self._found)
