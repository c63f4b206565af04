"""Recipe file → `Recipe`, or all its mistakes; the tables of a document are read as `schema` declares them. Torch-free."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import attrs

from ..errors import nearest
from ..host import manager as plugins
from ..host.attribution import stdout_to_stderr
from ..host.options import Config, DatasetConfig
from ..host.spec import KINDS
from .checks import check_all
from .document import Document, read, to_toml
from .draft import Draft, parts_reached, players_of
from .locate import Mistakes, Place
from .schema import PLAYERS, SECTIONS, PlayerEntry, Plugins, Recipe, Seeds, Stage
from .words import PART, Section, article, keys, listing, sections, show

C = TypeVar("C", bound=Config)


def load(
    path: str | os.PathLike[str],
    sets: Iterable[str] = (),
    seed: int | None = None,
    manager: plugins.Manager | None = None,
    over: Iterable[Document] = (),
    recorded: bool = False,
) -> Recipe:
    """Reads a recipe with all that it extends.

    Args:
        path: a TOML file, or ``package:recipe`` for one that an installed package brings.
        sets: overrides, ``KEY=VALUE``.
        seed: instead of the recipe's, for every purpose.
        over: documents laid over the file, one after the other, below the overrides.
        recorded: it is what a run wrote down: the files that it names need not be there any more.
        manager: where components are looked up; the process's own without the plugins that the recipe blocks.

    Raises:
        RecipeErrors: with every mistake that can be found before anything is built.
    """
    mistakes = Mistakes(os.fspath(path))
    overrides = (*sets, *(() if seed is None else (f"seed={seed}",)))
    document = read(path, overrides, mistakes, over)
    document.data.setdefault("name", pathlib.Path(document.file).stem)
    draft = Draft(document=document, manager=manager or plugins.manager(), mistakes=mistakes, recorded=recorded)
    named = _read_entry(draft, Plugins, ("plugins",)) or Plugins()
    if manager is None and named.block:
        draft.manager = plugins.manager(named.block)
    _check_plugins(draft, named)
    draft.recipe = attrs.evolve(draft.recipe, plugins=named)
    with stdout_to_stderr():  # configs are asked again and again, and what a plugin prints is no output of a command
        _read_sections(draft)
        check_all(draft)
    mistakes.throw()
    place = Place(file=document.file, line=1, key="")
    recipe = attrs.evolve(draft.recipe, source=to_toml(document.data), place=place)
    return attrs.evolve(recipe, dependencies=draft.dependencies(), scheduled=tuple(draft.scheduled))


def _check_plugins(draft: Draft, named: Plugins) -> None:
    for name in (name for name in draft.manager.unmatched_blocks() if name in named.block):
        near = nearest(name, {row.plugin for row in draft.manager.rows()})
        draft.say(("plugins", "block"), f'no plugin is called "{name}"', "names as `ibllm plugins` shows them", nearest=near)
    known = sorted({row.plugin for row in draft.manager.rows() if row.hooks}) if named.hooks else ()
    for name in named.hooks:
        try:
            hooks, what, near = draft.manager.plugin(name).hooks, f"the plugin {name!r} implements no lifecycle hook", ""
        except plugins.PluginError as error:
            hooks, what, near = (), str(error), nearest(name, known)
        if not hooks:
            draft.say(("plugins", "hooks"), what, listing(known) or "a plugin with lifecycle hooks", nearest=near)


def _read_sections(draft: Draft) -> None:
    """Everything in the document, in the order of the declaration: what comes later may ask for what came before."""
    top = _own(draft, Recipe, ())
    draft.unread |= set(keys(Recipe)) if top is None else set()
    draft.recipe = attrs.evolve(top or draft.recipe, plugins=draft.recipe.plugins)
    for section in (section for section in SECTIONS if section.name != "plugins"):
        if section.required and section.named and draft.is_table(section.name) and not draft.names(section.name):
            draft.say((section.name,), "missing", f"at least one table [{section.name}.NAME]")
        elif section.required and not section.named and draft.document.get(section.name) is None:
            known = listing(draft.manager.names(section.kind))
            draft.say((section.name,), "missing", f"a table that names {article(section.kind)}: {known}")
        value = _SPECIAL.get(section.name, _read)(draft, section, ())
        if value is not None:
            draft.recipe = attrs.evolve(draft.recipe, **{section.name: value})
        elif section.name in draft.document.data:
            draft.unread.add(section.name)
    _follow_the_data(draft)


def _read_entry(draft: Draft, cls: type[C], path: tuple[str, ...]) -> C | None:
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
            changed = {field.name: getattr(laid_over, field.name) for key, field in keys(held.of).items() if laid_over and key in table}
            filled[held.name] = attrs.evolve(recipes_own, **changed) if laid_over else None
        elif held.kind and not held.spread and held.name not in table:
            filled[held.name] = recipes_own
        else:
            filled[held.name] = _read(draft, held, path, tuple(keys(cls)) if held.spread else ())
    unread = any(filled[held.name] is None and not (held.optional and held.name not in table) for held in sections(cls))
    return None if read is None or unread else attrs.evolve(read, **filled)


def _own(draft: Draft, cls: type[C], path: tuple[str, ...]) -> C | None:
    """The options of a class; the keys of what it holds are left to that."""
    table, held = draft.table(*path) if path else draft.document.data, sections(cls)
    others = [key for section in held for key in section.keys]
    if any(section.spread and section.kind for section in held):  # a key that is unknown is the component's to tell
        others += [key for key in table if key not in keys(cls)]
    options = {key: value for key, value in table.items() if key not in others}
    return draft.structure(cls, options, path, others if path else (*others, "extends"))


def _read(draft: Draft, section: Section, path: tuple[str, ...], own: tuple[str, ...] = ()) -> Any:
    """What a section holds in the table at `path`: one value, or name → value; the table's `own` keys are not a component's."""
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
        return _read_entry(draft, section.of, path)
    table = draft.table(*path) if draft.document.get(*path) is not None else {"use": section.otherwise} if section.otherwise else None
    if table is None or not draft.is_table(*path):
        return None
    kind = section.kind
    if kind == PART:
        named = {"shared": "backbone", "extra": None}
        kind = str(table.get("kind", named[path[1]])) if path[1] in named else path[-1]
    return draft.component(kind, path, table, own) if kind in KINDS else None


def _seed(draft: Draft, section: Section, path: tuple[str, ...]) -> Seeds | None:
    seed = draft.document.data.get(section.name, 0)
    if isinstance(seed, dict):
        return draft.structure(Seeds, seed, (section.name,))
    if type(seed) is int and seed >= 0:
        return Seeds(init=seed, data=seed, evaluation=seed)
    if type(seed) is int:
        draft.say(("seed",), f"{seed} is out of range", ">= 0")
    else:
        draft.say(("seed",), f"{show(seed)} has the wrong type", "an integer, >= 0, or a table { init, data, evaluation }")
    return None


def _players(draft: Draft, section: Section, path: tuple[str, ...]) -> Mapping[str, PlayerEntry]:
    """The model, and the critic where there is one, whether they have a table or not."""
    table, common = draft.table(section.name), "optimizer" in draft.document.data
    for name in table:
        draft.all_known((section.name, name), [name], PLAYERS, "unknown player")
    own = {name for name in PLAYERS if draft.document.get(section.name, name, "optimizer") is not None}
    if common and "model" in own:
        path = ("players", "model", "optimizer")
        draft.say(path, "the model's optimizer is given twice", "either this table or the top-level [optimizer]")
    found = {}
    for name in PLAYERS:
        entry = _read_entry(draft, PlayerEntry, (section.name, name))
        plays = name == "model" or name in table or draft.recipe.critics() or "discriminator" in draft.parts_there()
        if plays and not common and name not in own:
            draft.say(("optimizer",), f"missing: the {name} has no optimizer", "a table that names an optimizer")
        if plays and entry is not None:
            found[name] = entry
    return found


def _stages(draft: Draft, section: Section, path: tuple[str, ...]) -> Mapping[str, Stage]:
    """``train = "all"`` is every part; the discriminator only where the critic plays, so that an adversary can be left out; the codec,
    which learns nothing of what a decoder makes of its tokens or latents, only where a loss is its own, and so a further part that is not frozen."""
    found = {}
    for name, stage in _read(draft, section, path).items():
        train: str | tuple[str, ...] = stage.train
        if trains_all := train == "all":
            reached = {part for loss in stage.losses for part in parts_reached(draft, loss)}
            critic = any("critic" in players_of(draft, loss) for loss in stage.losses)
            played = {"discriminator": critic, "image_tokenizer": "image_tokenizer" in reached}
            played |= {name: name in reached and not entry.frozen for name, entry in draft.recipe.model.named.items()}
            train = tuple(part for part in draft.parts_there() if played.get(part, True))
        if isinstance(train, str):
            draft.say(("stages", name, "train"), f"{show(train)} has the wrong type", '"all" or an array of parts')
        else:
            found[name] = attrs.evolve(stage, name=name, train=train, trains_all=trains_all, place=draft.place(section.name, name))
    return found


_SPECIAL: Mapping[str, Callable[[Draft, Section, tuple[str, ...]], Any]] = {"seed": _seed, "players": _players, "stages": _stages}


def _follow_the_data(draft: Draft) -> None:
    """The splits that a recipe does not name are those that its dataset looks at and reports."""
    recipe, data = draft.recipe, draft.recipe.data.config if draft.recipe.data else None
    if not isinstance(data, DatasetConfig):
        return
    if draft.document.get("evaluation", "splits") is None:
        recipe = attrs.evolve(recipe, evaluation=attrs.evolve(recipe.evaluation, splits=data.reported_splits()))
    stages = dict(recipe.stages)
    for name, stage in stages.items():
        if stage.validate is not None and not stage.validate.split:
            stages[name] = attrs.evolve(stage, validate=attrs.evolve(stage.validate, split=data.validation_split()))
    draft.recipe = attrs.evolve(recipe, stages=stages)
