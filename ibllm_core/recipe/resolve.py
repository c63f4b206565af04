"""A recipe as TOML that reads back to itself, and as nested tables with every default filled in. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import tomlkit
from tomlkit.container import Container
from tomlkit.items import Table

from ..host.options import Config
from .schema import FORMAT, READS, Component, Init, Recipe, Stage
from .structure import keys

C = TypeVar("C", Container, Table)

#: Characters of a table that still stands in one line.
WIDEST = 110
#: The order of a resolved recipe's tables; others follow as they come.
_ORDER = (
    "format", "name", "order", "init", "seed", "plugins", "data", "unpaired", "tokenizers", "model", "losses", "metrics", "trackers",
    "optimizer", "schedule", "players", "training", "stages", "compute", "evaluation",
)  # fmt: skip


def to_toml(data: Mapping[str, Any]) -> str:
    """Merged tables as TOML text, a function of their content alone (key order within a table kept)."""
    ranked = sorted(data, key=lambda key: _ORDER.index(key) if key in _ORDER else len(_ORDER))
    return tomlkit.dumps(_fill(tomlkit.document(), {key: data[key] for key in ranked}, 0))


def _fill(into: C, table: Mapping[str, Any], depth: int) -> C:
    """What stands in one line first, then tables of their own, as TOML's scopes ask for; else in the order given: losses add up in theirs."""
    lines = {key: _in_line(value, depth) for key, value in table.items()}
    for key in sorted(table, key=lambda key: lines[key] is None):
        value = lines[key]
        into.add(key, _fill(tomlkit.table(), table[key], depth + 1) if value is None else value)
    return into


def _in_line(value: Any, depth: int) -> Any:
    """A value as it stands after ``=``; None for a table that gets a header: a component, one near the top, a long one."""
    if isinstance(value, list):
        array = tomlkit.array()
        array.extend(_in_line(member, 2) for member in value)
        return array
    if not isinstance(value, Mapping):
        return value
    if depth < 2 or "use" in value:
        return None
    written = tomlkit.inline_table()
    for key, member in value.items():
        inner = _in_line(member, depth)
        if inner is None:
            return None
        written.add(key, inner)
    return written if len(written.as_string()) <= WIDEST else None


def resolved(recipe: Recipe) -> dict[str, Any]:
    """Everything a recipe says, defaults and followed widths filled in, as plain nested tables: for comparing, hashing and reports.

    Two recipes with equal tables train the same model on the same data the same way, whatever their files look like. None
    stands for an option that is switched off.
    """
    return {
        "format": FORMAT,
        "name": recipe.name,
        "seed": options(recipe.seed),
        "order": list(recipe.order),
        "init": _init(recipe.init),
        "plugins": options(recipe.plugins),
        "data": component(recipe.data),
        "unpaired": {name: component(found) for name, found in recipe.unpaired.items()},
        "tokenizers": {name: component(found) for name, found in recipe.tokenizers.items()},
        "model": {"width": recipe.width} | {name: _part(recipe, name) for name in recipe.parts},
        "losses": {
            name: {"weight": _plain(entry.weight), "every": entry.every} | component(entry.component)
            for name, entry in recipe.losses.items()
        },
        "metrics": {name: component(found) for name, found in recipe.metrics.items()},
        "trackers": {name: component(found) for name, found in recipe.trackers.items()},
        "players": {name: {"every": entry.every, "optimizer": component(entry.optimizer)} for name, entry in recipe.players.items()},
        "training": options(recipe.training),
        "stages": {name: _stage(stage) for name, stage in recipe.stages.items()},
        "compute": options(recipe.compute),
        "evaluation": options(recipe.evaluation),
    }


def options(config: Config) -> dict[str, Any]:
    """A config's options by their keys in a recipe."""
    return {key: _plain(getattr(config, field.name)) for key, field in keys(type(config)).items()}


def component(found: Component) -> dict[str, Any]:
    """A component's table with every option."""
    return {"use": found.use, **options(found.config)}


def _part(recipe: Recipe, name: str) -> dict[str, Any]:
    table = component(recipe.parts[name])
    if "width" in table and table["width"] is None:
        table["width"] = recipe.width
    encoder = READS.get(name)
    if "latent" in table and table["latent"] is None and encoder is not None and encoder in recipe.parts:
        table["latent"] = recipe.latent_width(encoder)
    return table | {"init": _init(recipe.parts[name].init)}


def _stage(stage: Stage) -> dict[str, Any]:
    return {
        "steps": stage.steps,
        "train": list(stage.train),
        "losses": {name: _plain(weight) for name, weight in stage.losses.items()},
        "lr": stage.lr,
        "schedule": component(stage.schedule),
        **options(stage.training),
        "validate": None if stage.validate is None else options(stage.validate),
        "init": _init(stage.init),
    }


def _init(init: Init | None) -> dict[str, Any] | None:
    return None if init is None else options(init)


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return options(value)
    if isinstance(value, Mapping):
        return {key: _plain(member) for key, member in value.items()}
    return [_plain(member) for member in value] if isinstance(value, tuple | list) else value
