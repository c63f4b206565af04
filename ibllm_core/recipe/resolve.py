"""A recipe as TOML that reads back to itself, and as nested tables with every default filled in; with what a run may go on. Torch-free."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

import attrs
import tomlkit

from ..errors import UserError
from ..host.options import Config
from .locate import dotted
from .schema import SECTIONS, Component, Recipe
from .words import keys, sections, written

#: Characters of a table that still stands in one line.
WIDEST = 110
#: The order of a resolved recipe's keys and tables; others follow as they come.
_ORDER = (*keys(Recipe), *(section.name for section in SECTIONS))
#: No weight depends on these and on what is in them, nor on a stage's ``validate.metrics``.
FREE = ("metrics", "trackers", "evaluation.splits", "evaluation.items", "evaluation.after_stage", "evaluation.samples",
        "compute.device", "compute.threads")  # fmt: skip


def to_toml(data: Mapping[str, Any]) -> str:
    """Merged tables as TOML text, a function of their content alone (key order within a table kept)."""
    ranked = sorted(data, key=lambda key: _ORDER.index(key) if key in _ORDER else len(_ORDER))
    return tomlkit.dumps(_filled(tomlkit.document(), {key: data[key] for key in ranked}, 0))


def _filled(into: Any, table: Mapping[str, Any], depth: int) -> Any:
    """What stands in one line first, then tables with headers, as TOML's scopes ask for; else in the order given: losses add up in theirs."""
    headed = {key: isinstance(of, Mapping) and (depth < 2 or "use" in of or len(str(of)) > WIDEST) for key, of in table.items()}
    for key in sorted(table, key=headed.__getitem__):
        value = _filled(tomlkit.table(), table[key], depth + 1) if headed[key] else table[key]
        if isinstance(value, list):
            value = tomlkit.array()
            value.extend(table[key])
        elif isinstance(value, Mapping) and not headed[key]:
            value = tomlkit.inline_table()
            value.update(table[key])
        into.add(key, value)
    return into


def resolved(recipe: Recipe) -> dict[str, Any]:
    """Everything a recipe says, defaults and followed widths filled in, as plain nested tables: for comparing, hashing and reports.

    Recipes with equal tables train the same model on the same data the same way. None stands for an option that is switched off.
    """
    tables = options(recipe)
    for name, encoder in ((name, recipe.reads(name)) for name in recipe.parts):
        table = tables["model"][name] if name in tables["model"] else tables["model"]["extra"][name]
        if "width" in table and table["width"] is None:
            table["width"] = recipe.width
        if encoder and "latent" in table and table["latent"] is None:
            table["latent"] = recipe.latent_width(encoder)
    return tables


def options(config: Config) -> dict[str, Any]:
    """A config's options by their keys in a recipe, and the tables that it holds."""
    found: dict[str, Any] = {}
    own = {field.name: key for key, field in keys(type(config)).items() if not field.metadata.get("unresolved")}
    held = {section.name: section for section in sections(type(config)) if not section.fills}
    for field in attrs.fields(type(config)):
        value, section = getattr(config, field.name), held.get(field.name)
        if field.name in own:
            found[own[field.name]] = _plain(value)
        elif section and section.spread:
            found |= _plain(value)
        elif section and not (section.implied and (not value or (value.use == section.implied and value.config == type(value.config)()))):
            found[field.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Component):
        return {"use": value.use, **options(value.config)}
    if isinstance(value, Config):
        return options(value)
    if isinstance(value, Mapping):
        return {key: _plain(member) for key, member in value.items()}
    return [_plain(member) for member in value] if isinstance(value, tuple | list) else value


def changes(started: str, recipe: Recipe, where: str) -> list[str]:
    """What a run that was started with the recipe text `started`, in the directory `where`, goes on with: ``key = value``, one a change.

    Raises:
        UserError: something that training depends on differs: all but `FREE`, or a metric whose figures decide in a stage.
    """
    plans = [attrs.evolve(stage.validate, metrics=()) for stage in recipe.running() if stage.validate is not None]
    deciding = {name for plan in plans for name in recipe.validated(plan)}
    before, now = _flat(tomllib.loads(started)), _flat(tomllib.loads(recipe.source))
    found, tied = [], []
    for path in (path for path in {**before, **now} if path not in before or path not in now or before[path] != now[path]):
        free = any(path[: name.count(".") + 1] == tuple(name.split(".")) for name in FREE) or path[2:4] == ("validate", "metrics")
        decides = path[0] == "metrics" and path[1] in deciding
        found.append(f"{dotted(path)} = {written(now[path])}" if path in now else f"{dotted(path)} is taken away")
        tied += [found[-1] + " (its figures decide in a stage)" * decides] if decides or not free else []
    if tied:
        may = f"only {', '.join(FREE)} and the metrics of validations may change, as no weight depends on them"
        raise UserError(f"{where} cannot go on with another training: {'; '.join(tied)}. When a run goes on, {may}")
    return found


def _flat(tables: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for key, value in tables.items():
        found |= _flat(value, (*path, key)) if isinstance(value, Mapping) else {(*path, key): value}
    return found
