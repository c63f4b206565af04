"""Reads the tables of a document into a draft, as `schema` declares them. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

from ..host.options import Config, DatasetConfig, LossConfig
from .draft import Draft, needs
from .fields import PART, Section, sections
from .schema import PARTS, PLAYERS, SECTIONS, PlayerEntry, Recipe, Seeds, Stage
from .words import article, keys, listing, show

C = TypeVar("C", bound=Config)


def read_sections(draft: Draft) -> None:
    """Everything in the document, in the order of the declaration: what comes later may ask for what came before."""
    top = _own(draft, Recipe, ())
    draft.unread |= set(keys(Recipe)) if top is None else set()
    draft.recipe = attrs.evolve(top or draft.recipe, plugins=draft.recipe.plugins)
    for section in (section for section in SECTIONS if section.name != "plugins"):
        if section.required:
            _must_be_there(draft, section)
        value = _SPECIAL.get(section.name, _read)(draft, section, ())
        if value is not None:
            draft.recipe = attrs.evolve(draft.recipe, **{section.name: value})
        elif section.name in draft.document.data:
            draft.unread.add(section.name)
    _follow_the_data(draft)


def read_entry(draft: Draft, cls: type[C], path: tuple[str, ...]) -> C | None:
    """What a table says, by the class that declares it; None once the mistakes are noted. A section's own keys may fail alone: its tables are read."""
    table = draft.table(*path)
    if not draft.is_table(*path):
        return None
    read = _own(draft, cls, path)
    if read is None and len(path) == 1:
        draft.unread.add(path[0])
        read = cls()
    filled: dict[str, Any] = {}
    for held in sections(cls):
        recipes_own = getattr(draft.recipe, held.name, None)
        if held.spread and isinstance(recipes_own, Config):
            laid_over = draft.structure(held.of, {key: value for key, value in table.items() if key in held.keys}, path)
            changed = {field.name: getattr(laid_over, field.name) for key, field in keys(held.of).items() if key in table}
            filled[held.name] = attrs.evolve(recipes_own, **changed) if laid_over else None
        elif held.kind and not held.spread and held.name not in table:
            filled[held.name] = recipes_own
        else:
            filled[held.name] = _read(draft, held, path, tuple(keys(cls)))
    return None if read is None or any(value is None for value in filled.values()) else attrs.evolve(read, **filled)


def _own(draft: Draft, cls: type[C], path: tuple[str, ...]) -> C | None:
    """The options of a class; the keys of what it holds are left to that."""
    table, held = draft.table(*path) if path else draft.document.data, sections(cls)
    others = [key for section in held for key in section.keys]
    if any(section.spread and section.kind for section in held):  # a key that is unknown is the component's to tell
        others += [key for key in table if key not in keys(cls)]
    return draft.structure(
        cls, {key: value for key, value in table.items() if key not in others}, path, others if path else (*others, "extends")
    )


def _read(draft: Draft, section: Section, path: tuple[str, ...], own: tuple[str, ...] = ()) -> Any:
    """What a section holds: one value, or name → value.

    Args:
        path: of the table that the section is a key of, or spread in.
        own: keys in the table that are not a component's.
    """
    here = path if section.spread else (*path, section.name)
    if not section.named:
        return _one(draft, section, here, own)
    draft.table(*here)
    found = {}
    for name in draft.names(*here):
        if not section.names or name in section.names:
            found[name] = _one(draft, section, (*here, name))
        elif not section.spread:
            draft.all_known((*here, name), [name], section.names, "unknown key")
    return {name: value for name, value in found.items() if value is not None}


def _one(draft: Draft, section: Section, path: tuple[str, ...], own: tuple[str, ...] = ()) -> Any:
    if not section.kind:
        return read_entry(draft, section.of, path)
    table = draft.table(*path) if draft.document.get(*path) is not None else {"use": section.otherwise} if section.otherwise else None
    if table is None or not draft.is_table(*path):
        return None
    return draft.component(path[-1] if section.kind == PART else section.kind, path, table, own)


def _must_be_there(draft: Draft, section: Section) -> None:
    if section.named and draft.is_table(section.name) and not draft.names(section.name):
        draft.say((section.name,), "missing", expected=f"at least one table [{section.name}.NAME]")
    elif not section.named and draft.document.get(section.name) is None:
        expected = f"a table that names {article(section.kind)}: {listing(draft.manager.names(section.kind))}"
        draft.say((section.name,), "missing", expected=expected)


def _seed(draft: Draft, section: Section, path: tuple[str, ...]) -> Seeds | None:
    seed = draft.document.data.get(section.name, 0)
    if isinstance(seed, dict):
        return draft.structure(Seeds, seed, (section.name,))
    if type(seed) is not int:
        draft.say(("seed",), f"{show(seed)} has the wrong type", expected="an integer, >= 0, or a table { init, data, evaluation }")
    elif seed < 0:
        draft.say(("seed",), f"{seed} is out of range", expected=">= 0")
    else:
        return Seeds(init=seed, data=seed, evaluation=seed)
    return None


def _players(draft: Draft, section: Section, path: tuple[str, ...]) -> Mapping[str, PlayerEntry]:
    """The model, and the critic where there is one, whether they have a table or not."""
    table, common = draft.table(section.name), "optimizer" in draft.document.data
    for name in table:
        draft.all_known((section.name, name), [name], PLAYERS, "unknown player")
    own = {name for name in PLAYERS if draft.document.get(section.name, name, "optimizer") is not None}
    if common and "model" in own:
        expected = "either this table or the top-level [optimizer]"
        draft.say((section.name, "model", "optimizer"), "the model's optimizer is given twice", expected=expected)
    found = {}
    for name in PLAYERS:
        entry = read_entry(draft, PlayerEntry, (section.name, name))
        plays = name == "model" or name in table or "discriminator" in draft.parts_there()
        if plays and not common and name not in own:
            draft.say(("optimizer",), f"missing: the {name} has no optimizer", expected="a table that names an optimizer")
        if plays and entry is not None:
            found[name] = entry
    return found


def _stages(draft: Draft, section: Section, path: tuple[str, ...]) -> Mapping[str, Stage]:
    found = {}
    for name, stage in _read(draft, section, path).items():
        train = _trained(draft, name, stage)
        if train is not None:
            found[name] = attrs.evolve(stage, name=name, train=train, place=draft.place(section.name, name))
    return found


_SPECIAL: Mapping[str, Callable[[Draft, Section, tuple[str, ...]], Any]] = {"seed": _seed, "players": _players, "stages": _stages}


def _trained(draft: Draft, name: str, stage: Stage) -> tuple[str, ...] | None:
    """``"all"`` is every part of the model; the discriminator only where the critic plays, so that an adversary can be left out, and the
    image tokenizer only where a loss reaches it: its tokens pass no gradient."""
    train: Any = stage.train
    if not isinstance(train, str):
        return stage.train
    if train != "all":
        draft.say(("stages", name, "train"), f"{show(train)} has the wrong type", expected='"all" or an array of parts')
        return None
    away = set()
    if not any("critic" in players_of(draft, loss) for loss in stage.losses):
        away.add("discriminator")
    if not any("image_tokenizer" in parts_reached(draft, loss) for loss in stage.losses):
        away.add("image_tokenizer")
    return tuple(part for part in draft.parts_there() if part not in away)


def _follow_the_data(draft: Draft) -> None:
    """The splits that a recipe does not name are those that its dataset looks at and reports."""
    recipe = draft.recipe
    data = recipe.data.config if recipe.data else None
    if not isinstance(data, DatasetConfig):
        return
    if draft.document.get("evaluation", "splits") is None:
        recipe = attrs.evolve(recipe, evaluation=attrs.evolve(recipe.evaluation, splits=data.reported_splits()))
    stages = dict(recipe.stages)
    for name, stage in stages.items():
        if stage.validate is not None and not stage.validate.split:
            stages[name] = attrs.evolve(stage, validate=attrs.evolve(stage.validate, split=data.validation_split()))
    draft.recipe = attrs.evolve(recipe, stages=stages)


def players_of(draft: Draft, loss: str) -> tuple[str, ...]:
    """Who plays a loss; nobody where it could not be read."""
    entry = draft.recipe.losses.get(loss)
    if entry is None:
        return ()
    return entry.component.config.players() if isinstance(entry.component.config, LossConfig) else ("model",)


def terms_of(draft: Draft, loss: str) -> tuple[str, ...]:
    """The losses that a composite is made of."""
    entry = draft.recipe.losses.get(loss)
    return entry.component.config.terms() if entry and isinstance(entry.component.config, LossConfig) else ()


def parts_reached(draft: Draft, loss: str) -> tuple[str, ...]:
    """The parts that the gradient of a loss, or of a term of it, reaches: those that it asks for itself."""
    entries = [draft.recipe.losses[name] for name in (loss, *terms_of(draft, loss)) if name in draft.recipe.losses]
    found = {need.partition(".")[0] for entry in entries for need in needs(entry.component.config)}
    return tuple(part for part in PARTS if part in found)
