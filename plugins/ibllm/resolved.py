"""A recipe as plain nested tables with every default filled in: for comparing, hashing and reports. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from ibllm.added import as_before
from ibllm_core.host.options import Config
from ibllm_core.recipe.locate import Component, Scheduled
from ibllm_core.recipe.schema import Recipe
from ibllm_core.recipe.words import keys, sections

#: Options of [compute] that change how fast a run is, or how much memory it takes, and not what it trains: ibllm 0.1, whose studies go on, had none of them.
_SAME = frozenset({"workers", "graphs", "shard", "activation_checkpointing"})


def resolved(recipe: Recipe, added: bool = True) -> dict[str, Any]:
    """Everything a recipe says, defaults and followed widths filled in, as plain nested tables.

    Recipes with equal tables train the same model on the same data the same way. None stands for an option that is switched off.

    Args:
        added: with options that came later (`ibllm.plugin.added`) and have their default; without them a recipe's tables are what they were before.
    """
    tables = options(recipe, added)
    tables["compute"] = {key: value for key, value in tables["compute"].items() if key not in _SAME}
    tables["compute"]["compile"] = recipe.compute.compile is True  # auto differs from false in rounding at most
    for name, encoder in ((name, recipe.reads(name)) for name in recipe.parts):
        table = tables
        for key in recipe.place_of(name).split("."):
            table = table[key]
        if "width" in table and table["width"] is None:
            table["width"] = recipe.width
        if encoder and "latent" in table and table["latent"] is None:
            table["latent"] = recipe.latent_width(encoder)
    return tables


def options(config: Config, added: bool = True) -> dict[str, Any]:
    """A config's options by their keys in a recipe, and the tables that it holds; `added` as in `resolved`."""
    found: dict[str, Any] = {}
    own = {field.name: key for key, field in keys(type(config)).items() if not field.metadata.get("unresolved")}
    held = {section.name: section for section in sections(type(config)) if not section.fills}
    for field in attrs.fields(type(config)):
        value, section = getattr(config, field.name), held.get(field.name)
        if field.name in own:
            if added or not as_before(field, value):
                found[own[field.name]] = _plain(value, added)
        elif section and section.spread:
            found |= _plain(value, added)
        elif section and not (section.implied and _as_implied(value, section.implied)):
            found[field.name] = _plain(value, added)
    return found


def schedule_table(number: Scheduled, added: bool = True) -> dict[str, Any]:
    """A number that follows a schedule as a recipe writes it; a line from one value to another in the short form."""
    schedule, short = number.schedule, ("from", "to", "over")
    table, others = options(schedule.config), {"value": number.value}
    line = {"warmup": 0, "final": 0.0, "value": 1.0, **{key: table.get(key) for key in short}}
    if schedule.use == "linear" and table.get("to") is not None and others | table == line:
        return {key: table[key] for key in short}
    return {"use": schedule.use, **others, **options(schedule.config, added)}


def _as_implied(value: Any, implied: str) -> bool:
    """Whether a table is left out, or says what is said where it is left out; one of tables with names of their own is left out where it is empty."""
    return not value or (isinstance(value, Component) and value.use == implied and value.config == type(value.config)())


def _plain(value: Any, added: bool) -> Any:
    if isinstance(value, Scheduled):
        return schedule_table(value, added)
    if isinstance(value, Component):
        return {"use": value.use, **options(value.config, added)}
    if isinstance(value, Config):
        return options(value, added)
    if isinstance(value, Mapping):
        return {key: _plain(member, added) for key, member in value.items()}
    return [_plain(member, added) for member in value] if isinstance(value, tuple | list) else value
