"""Whether what a run was made with is here to open it with. Torch-free."""

from __future__ import annotations

import functools
import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs

from ibllm_core.errors import Notice, UserError
from ibllm_core.host.entry_points import UNKNOWN, plain
from ibllm_core.host.manager import manager
from ibllm_core.recipe import load
from ibllm_core.recipe.schema import Recipe
from ibllm_core.runs.directory import RunDirectory
from ibllm_core.runs.provenance import provenance

from .sources import changed, code


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


def load_run(directory: RunDirectory, sets: Sequence[str] = ()) -> Recipe:
    """The recipe of a run as it was resolved, with overrides. Raises `UserError`, with what to install, where a plugin of the run is not there.

    What the recipe names and has moved together with the run is found beside it, and told; the recipe's source keeps what it says.
    """
    info, moved = directory.info(), {}
    for key, (there, beside) in info.get("paths", {}).items():
        here = os.path.abspath(directory.path / beside)
        if not os.path.exists(there) and os.path.exists(here):
            moved[key] = (there, here)
            warnings.warn(Notice(f"{directory.path}: {key} = {there} is not there; {here} is used"), stacklevel=2)
    found = (f"{key}={json.dumps(here, ensure_ascii=False)}" for key, (_, here) in moved.items())
    recipe = load_recorded(directory.recipe, info, str(directory.path), (*found, *sets))
    source = functools.reduce(lambda text, pair: text.replace(pair[1], pair[0]), moved.values(), recipe.source)
    return attrs.evolve(recipe, source=source) if moved else recipe


def load_recorded(file: Path, info: Mapping[str, Any], what: str, sets: Sequence[str] = ()) -> Recipe:
    """Reads the recipe of the run `what`, with overrides, and compares its record (run.json or model.json) with what is installed.

    A package of another version or with other source, or another one that offers the component now, is warned of.

    Raises:
        UserError: a component is not here, or only another package's, or the recipe cannot be read with the versions that are. Says what to install.
    """
    entries = _entries(info.get("provenance"))
    _require(what, [(entry, entry.installed and f"{entry.installed} is installed") for entry in entries if not _offered(entry)])
    try:
        recipe = load(file, sets, recorded=True)
    except UserError as error:
        others = [entry for entry in entries if entry.installed != entry.version]
        if not others:
            raise
        made_with = dict.fromkeys(f"{e.wanted} ({f'here: {e.installed}' if e.installed else 'not installed here'})" for e in others)
        install = f"{what} was made with {', '.join(made_with)}. To have what it was made with: {_install(others)}"
        raise UserError(f"{error}\n\n{install}") from error
    edited = changed(info.get("sources", {}), code(recipe))
    _compare(entries, provenance(recipe), what, [f"another state of {', '.join(edited)}"] if edited else [])
    return recipe


def _compare(entries: Iterable[_Entry], now: Mapping[str, Mapping[str, str]], what: str, others: list[str]) -> None:
    """Raises `UserError` and warns (of `others` too) as `load_recorded` does; a component that was overridden is nothing to compare."""
    replaced = []
    for entry in entries:
        here = _Entry(path=entry.path, **now[entry.path]) if entry.path in now else None
        if here is None or here.component != entry.component:
            continue
        if plain(here.distribution) == plain(entry.distribution):
            others += [f"{entry.wanted} (here: {here.version})"] if here.version != entry.version else []
        elif entry.installed:
            others.append(f"{entry.component} of {entry.wanted} (here: of {here.wanted})")
        else:
            replaced.append((entry, f"here {here.wanted} offers one of that name: uninstall or block it"))
    _require(what, replaced)
    if others:
        warnings.warn(Notice(f"{what} was made with {', '.join(dict.fromkeys(others))}; figures may differ"), stacklevel=3)


def _require(what: str, missing: Iterable[tuple[_Entry, str]]) -> None:
    """Raises `UserError` where there are any; beside each, what is here instead."""
    if missing := list(missing):
        listed = dict.fromkeys(f"{e.path} = {e.component} of {e.wanted}" + (f" ({here})" if here else "") for e, here in missing)
        install = _install(entry for entry, _ in missing)
        raise UserError(f"{what} was made with what is not installed here: {'; '.join(listed)}. To have it: {install}")


def _install(entries: Iterable[_Entry]) -> str:
    return "pip install " + " ".join(dict.fromkeys(f"'{entry.wanted}'" for entry in entries))


def _entries(record: object) -> list[_Entry]:
    """Those of which the distribution is known."""
    rows: Mapping[str, Any] = record if isinstance(record, Mapping) else {}
    keys = ("component", "distribution", "version")
    found = [_Entry(str(path), *(str(row.get(key, "")) for key in keys)) for path, row in rows.items() if isinstance(row, Mapping)]
    return [entry for entry in found if entry.distribution not in ("", UNKNOWN)]


def _offered(entry: _Entry) -> bool:
    """False where no plugin offers the component; True too where its own package is here and broken or blocked: reading the recipe says why."""
    rows = manager().rows()
    if entry.path.startswith("plugins.hooks."):
        return any(row.plugin == entry.component for row in rows)
    ill = any(plain(row.distribution) == plain(entry.distribution) and row.status != "ok" for row in rows)
    return ill or any(f"{row.kind}.{row.name}" == entry.component for row in rows)
