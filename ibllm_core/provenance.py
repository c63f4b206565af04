"""Where the components of a run came from, and whether the same are here to open it with. Torch-free."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from .errors import Notice, UserError
from .plugins import UnknownComponent, manager
from .recipe.schema import Recipe


def provenance(recipe: Recipe) -> dict[str, dict[str, str]]:
    """Key path → component, distribution and version, for run.json and model.json."""
    found = {path: {"component": str(c), "distribution": c.distribution, "version": c.version} for path, c in recipe.components().items()}
    for name in recipe.plugins.hooks:
        origin = manager(recipe.plugins.block).plugin(name).origin
        found[f"plugins.hooks.{name}"] = {"component": name, "distribution": origin.distribution, "version": origin.version}
    return found


def check_provenance(record: object, what: str) -> None:
    """Compares what a run recorded with what is installed.

    Args:
        record: as `provenance` gave it, read from a file: anything else says nothing.
        what: the run, for messages.

    Raises:
        UserError: a component is not here; says which package and version to install.

    Warns:
        Notice: a package has another version than when the run was made.
    """
    missing: dict[str, str] = {}
    others: dict[str, str] = {}
    for path, entry in record.items() if isinstance(record, Mapping) else ():
        component, distribution, version = _entry(entry)
        if not distribution:
            continue
        installed = _installed(distribution)
        if not _offered(path, component):
            had = f" ({installed} is installed)" if installed else ""
            missing[f"{path} = {component} of {distribution}=={version}{had}"] = f"{distribution}=={version}"
        elif installed and installed != version:
            others[distribution] = f"{distribution}=={version} (here: {installed})"
    if missing:
        wanted = " ".join(f"'{name}'" for name in dict.fromkeys(missing.values()))
        raise UserError(f"{what} was made with what is not installed here: {'; '.join(missing)}. To have it: pip install {wanted}")
    if others:
        warnings.warn(Notice(f"{what} was made with {', '.join(others.values())}; figures may differ"), stacklevel=2)


def _entry(entry: object) -> tuple[str, str, str]:
    found: Mapping[str, Any] = entry if isinstance(entry, Mapping) else {}
    component, distribution, version = (str(found.get(key, "")) for key in ("component", "distribution", "version"))
    return component, distribution if distribution != "unknown" else "", version


def _offered(path: str, component: str) -> bool:
    """False where no plugin offers the component; True too where one does that cannot be used: opening the recipe says why."""
    if path.startswith("plugins.hooks."):
        return any(row.plugin == component for row in manager().rows())
    kind, _, name = component.partition(".")
    try:
        manager().get(kind, name)
    except UnknownComponent as error:
        return bool(error.hints)
    except (UserError, AssertionError):
        return True
    return True


def _installed(distribution: str) -> str:
    try:
        return metadata.version(distribution) or ""
    except metadata.PackageNotFoundError:
        return ""
