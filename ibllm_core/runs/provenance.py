"""Where the components of a run came from, and whether the same are here to open it with. Torch-free."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs

from ..errors import Notice, UserError
from ..host.entry_points import UNKNOWN, plain
from ..host.manager import UnknownComponent, manager
from ..recipe.schema import Recipe


@attrs.frozen
class _Entry:
    """What a run recorded of one component, or of a plugin that it calls: `path` is its place in the recipe."""

    path: str
    component: str
    distribution: str
    version: str

    @property
    def wanted(self) -> str:
        return f"{self.distribution}=={self.version}"

    @property
    def installed(self) -> str:
        """The version of the distribution that is here; empty where it is not."""
        try:
            return metadata.version(self.distribution) or ""
        except metadata.PackageNotFoundError:
            return ""

    @property
    def told(self) -> str:
        return f"{self.path} = {self.component} of {self.wanted}"

    @property
    def whereabouts(self) -> str:
        return f"here: {self.installed}" if self.installed else "not installed here"


def provenance(recipe: Recipe) -> dict[str, dict[str, str]]:
    """Key path → component, distribution and version, for run.json and model.json."""
    found = {path: {"component": str(c), "distribution": c.distribution, "version": c.version} for path, c in recipe.components().items()}
    for name in recipe.plugins.hooks:
        origin = manager(recipe.plugins.block).plugin(name).origin
        found[f"plugins.hooks.{name}"] = {"component": name, "distribution": origin.distribution, "version": origin.version}
    return found


def load_recorded(file: Path, record: object, what: str, sets: Sequence[str] = ()) -> Recipe:
    """Reads a run's recipe, and compares what the run recorded with what is installed.

    Args:
        record: as `provenance` gave it, read from a file: anything else says nothing.
        what: the run, for messages.
        sets: overrides, as of `ibllm_core.recipe.load`.

    Raises:
        UserError: a component is not here, or is another package's and its own package is not installed; or the recipe cannot be read with the
            versions that are. Says which package and version to install.

    Warns:
        Notice: a package has another version than when the run was made, or another one offers its component now.
    """
    from ..recipe import load

    entries = list(_entries(record))
    missing = {
        entry.told + (f" ({entry.installed} is installed)" if entry.installed else ""): entry for entry in entries if not _offered(entry)
    }
    if missing:
        raise _not_here(what, missing)
    try:
        recipe = load(file, sets)
    except UserError as error:
        others = [entry for entry in entries if entry.installed != entry.version]
        if not others:
            raise
        made_with = ", ".join(dict.fromkeys(f"{entry.wanted} ({entry.whereabouts})" for entry in others))
        raise UserError(f"{error}\n\n{what} was made with {made_with}. To have what it was made with: {_install(others)}") from error
    _compare(entries, provenance(recipe), what)
    return recipe


def _compare(entries: Iterable[_Entry], now: Mapping[str, Mapping[str, str]], what: str) -> None:
    """Raises `UserError` and warns as `load_recorded` does; a component that was overridden is nothing to compare."""
    replaced: dict[str, _Entry] = {}
    others: dict[str, None] = {}
    for entry in entries:
        here = now.get(entry.path, {})
        if here.get("component") != entry.component:
            continue
        distribution, version = here["distribution"], here["version"]
        if plain(distribution) == plain(entry.distribution):
            if version != entry.version:
                others[f"{entry.wanted} (here: {version})"] = None
        elif entry.installed:
            others[f"{entry.component} of {entry.wanted} (here: of {distribution}=={version})"] = None
        else:
            replaced[f"{entry.told} (here {distribution}=={version} offers one of that name: uninstall or block it)"] = entry
    if replaced:
        raise _not_here(what, replaced)
    if others:
        warnings.warn(Notice(f"{what} was made with {', '.join(others)}; figures may differ"), stacklevel=3)


def _not_here(what: str, missing: Mapping[str, _Entry]) -> UserError:
    return UserError(f"{what} was made with what is not installed here: {'; '.join(missing)}. To have it: {_install(missing.values())}")


def _install(entries: Iterable[_Entry]) -> str:
    return "pip install " + " ".join(dict.fromkeys(f"'{entry.wanted}'" for entry in entries))


def _entries(record: object) -> Iterator[_Entry]:
    """Those of which the distribution is known."""
    for path, entry in record.items() if isinstance(record, Mapping) else ():
        found: Mapping[str, Any] = entry if isinstance(entry, Mapping) else {}
        component, distribution, version = (str(found.get(key, "")) for key in ("component", "distribution", "version"))
        if distribution and distribution != UNKNOWN:
            yield _Entry(str(path), component, distribution, version)


def _offered(entry: _Entry) -> bool:
    """False where no plugin offers the component; True too where its own package is here and broken or blocked: reading the recipe says why."""
    kind, _, name = entry.component.partition(".")
    try:
        if entry.path.startswith("plugins.hooks."):
            return any(row.plugin == entry.component for row in manager().rows())
        manager().get(kind, name)
    except UnknownComponent:
        return any(plain(row.distribution) == plain(entry.distribution) and row.status != "ok" for row in manager().rows())
    except (UserError, AssertionError):
        return True
    return True
