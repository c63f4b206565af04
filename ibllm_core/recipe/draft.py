"""A recipe while it is read: what could be read so far, and what could not. Torch-free."""

from __future__ import annotations

import contextlib
import math
import os.path
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import attrs

from ..errors import UserError, nearest
from ..host import packaged
from ..host.attribution import PluginError
from ..host.manager import Manager, UnknownComponent
from ..host.options import Config, DatasetConfig, LossConfig, MetricConfig
from ..host.spec import KINDS
from ..interfaces.context import Context
from .document import Document
from .locate import Component, Dependency, Mistakes, Path, Place, Scheduled, ScheduledFloat, ScheduledInt
from .schema import PARTS, PLAYERS, Recipe
from .words import Located, article, keys, listing, show, structure

C = TypeVar("C", bound=Config)


@attrs.define(kw_only=True)
class Draft:
    """`recipe` as far as it could be read. What is missing there and stands in `document` has its mistake already, and `unread` names the
    sections, or top-level keys, that are at their defaults for that reason. `recorded`: it is a run's own."""

    document: Document
    manager: Manager
    mistakes: Mistakes
    recipe: Recipe = Recipe(order=())
    unread: set[str] = attrs.field(factory=set)
    recorded: bool = False
    scheduled: list[Scheduled] = attrs.field(factory=list, init=False)
    _named: dict[Path, Dependency] = attrs.field(factory=dict, init=False)

    def names(self, *path: str) -> tuple[str, ...]:
        """The names that a table of the document has, whether they could be read or not."""
        table = self.document.get(*path)
        return tuple(table) if isinstance(table, Mapping) else ()

    def is_table(self, *path: str) -> bool:
        """False where something else than a table stands: then nothing is said of what it lacks."""
        value = self.document.get(*path)
        return value is None or isinstance(value, dict)

    def parts_there(self) -> tuple[str, ...]:
        """The parts that the model has or was meant to have: one whose name is misspelt is no missing part too."""
        if not self.is_table("model"):
            return PARTS
        meant = {name if name in PARTS else nearest(name, PARTS) for name in self.names("model")}
        return (*(part for part in PARTS if part in meant), *self.names("model", "shared"), *self.names("model", "extra"))

    def place(self, *path: str | int) -> Place:
        return self.document.place(*path)

    def say(self, path: Iterable[str | int], what: str, expected: str = "", **more: str) -> None:
        """Notes a mistake at a key path; `more` as for `Mistakes.add`."""
        self.mistakes.add(self.place(*path), what, expected=expected, **more)

    def all_known(self, path: Path, words: Iterable[str], known: Iterable[str] | None, what: str, hint: str = "") -> bool:
        """Notes each word that is not among those known, if these are; `what` is the message, with ``{}`` for the word."""
        names = list(known or ())
        strange = [word for word in words if word not in names and known is not None]
        for word in strange:
            self.say(path, what.replace("{}", word), listing(names), nearest=nearest(word, names), hint=hint)
        return not strange

    def table(self, *path: str) -> dict[str, Any]:
        """The table at a path, empty where there is none or something else (a mistake then)."""
        value = self.document.get(*path)
        if value is None or isinstance(value, dict):
            return value or {}
        example = f' with use = "{value}"' if isinstance(value, str) else ""
        self.say(path, f"{show(value)} has the wrong type", f"a table{example}")
        return {}

    def structure(self, cls: type[C], table: Mapping[str, Any], path: Path, also: Iterable[str] = (), provider: str = "") -> C | None:
        """An instance of `cls`, or None once its mistakes are noted."""
        located: Located = lambda inside, *written: self._located((*path, *inside), *written)  # noqa: E731
        done = structure(cls, table, also, located, lambda inside, *number: self._followed((*path, *inside), *number))
        for flaw in [flaw for flaw in done if flaw.what] if isinstance(done, list) else ():
            self.say((*path, *flaw.path), flaw.what, flaw.expected, nearest=flaw.nearest, provider=provider)
        return None if isinstance(done, list) else done

    def _followed(self, path: Path, table: Mapping[str, Any], of: type, check: Callable[[Any], None]) -> Any:
        """The number that follows the schedule of a table; None once its mistakes are noted. Raises what `check` has against one of its values."""
        if "use" not in table:
            if "to" not in table:
                self.say((*path, "to"), "missing", "a number, the last one of the line; or use = and the name of a schedule")
            table = {"use": "linear", "from": 0.0, **table}
        value, component = table.get("value", 1.0), self.component("schedule", path, table, ("value",))
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.say((*path, "value"), f"{show(value)} is refused", "a finite number, which the schedule's factors multiply")
            return None
        if component is None:
            return None
        names = (str(path[1]),) if path[0] == "stages" else self.names("stages")
        stages = [n for name in names if type(n := self.document.get("stages", name, "steps")) is int and n > 0] or [1]
        with self.manager.blamed("schedule", component.use, "the factor"):
            make, found = self.manager.factory("schedule", component.use), list[float]()
            for steps in [sum(stages)] if getattr(component.config, "of_run", False) else stages:
                schedule = make(component.config, Context(steps=steps))
                found += [value * schedule.factor(step, steps) for step in (*range(0, steps, max(1, steps // 500)), steps - 1)]
        for extreme in (min(found), max(found)):
            check(extreme)
        number = ScheduledFloat(found[-1]) if of is float else ScheduledInt(round(found[-1]))
        number.value, number.schedule, number.path = value, component, path
        self.scheduled.append(number)
        return number

    def _located(self, path: Path, written: str, kind: str) -> str:
        """Where a file is that an option names: a relative path is one of the file that says it, and of the working directory where that is no file
        of the user's (an override, a packaged recipe, a run's record) and below ``runs/``, where runs are made."""
        place, of_packages = self.place(*path), [str(file.path) for file in packaged.everything("recipes")]
        here = self.recorded or not place.line or place.file in of_packages or pathlib.PurePath(written).parts[:1] == ("runs",)
        found = os.path.abspath(os.path.join("" if here else os.path.dirname(place.file), os.path.expanduser(written)))
        if not written or (kind == "name" and not os.path.exists(found)):
            return written
        holds: Any = self.document.data
        for step in path[:-1]:
            holds = holds[step]
        self._named[path] = Dependency(path, kind, pathlib.Path(found), holds.get("weights", "best") if kind == "run" else "", place)
        holds[path[-1]] = found
        return found

    def dependencies(self) -> tuple[Dependency, ...]:
        """What the options read so far name; stages that are not played need nothing."""
        idle = [("stages", name) for name, stage in self.recipe.stages.items() if not stage.steps]
        return tuple(one for path, one in self._named.items() if path[:2] not in idle)

    def component(self, kind: str, path: Path, table: Mapping[str, Any], own: Iterable[str] = ()) -> Component | None:
        """The component that a table names beside `own` keys of the recipe; None once the mistakes are noted."""
        use = table.get("use")
        if not isinstance(use, str):
            what = f"{show(use)} has the wrong type" if "use" in table else "missing"
            self.say((*path, "use"), what, f"the name of {article(kind)}: " + listing(self.manager.names(kind)))
            return None
        known = ("use", *own)
        options = {key: value for key, value in table.items() if key not in known}
        try:
            spec, origin = self.manager.get(kind, use), self.manager.origin(kind, use)
            config_class = self.manager.config_class(kind, use)
            with self.manager.blamed(kind, use, "the config"):
                config = self.structure(config_class, options, path, known, f"{kind}.{use} of {origin.distribution} {origin.version}")
                if config is None:
                    return None
                check_answers(config)
            place = attrs.evolve(self.place(*path, "use"), key=self.place(*path).key)
            return Component(
                kind=kind, use=use, config=config, spec=spec, place=place, distribution=origin.distribution, version=origin.version
            )
        except UnknownComponent as error:
            elsewhere = [article(kind) for kind in KINDS if use in self.manager.names(kind)]
            hints = [f"{use} is the name of {' and '.join(elsewhere)}."] if elsewhere else []
            what = f'no {error.kind} is called "{{}}"'
            self.all_known((*path, "use"), [use], error.known, what, " ".join([*hints, *error.hints]))
        except UserError as error:
            self.say((*path, "use"), str(error))
        return None


def needs(config: Config) -> frozenset[str]:
    """What a component asks of others; a critic's loss asks for a critic and a metric for some data, whether they say so or not."""
    said = config.needs()
    critic = isinstance(config, LossConfig) and "critic" in config.players()
    named = named_parts(config)
    critic = critic and "discriminator" not in {kind for _, kind in named.values()}
    measures = isinstance(config, MetricConfig) and not any(need.startswith("data.") for need in said)
    return said | named.keys() | ({"discriminator"} if critic else frozenset()) | ({"data.pairs"} if measures else frozenset())


def named_parts(config: Config) -> dict[str, tuple[str, str]]:
    """Parts that options name → the option's key, and the kind that the part has to be of."""
    fields = ((key, getattr(config, field.name), field.metadata.get("part")) for key, field in keys(type(config)).items())
    return {name: (key, kind) for key, name, kind in fields if kind and name}


def players_of(draft: Draft, loss: str) -> tuple[str, ...]:
    """Who plays a loss; nobody where it could not be read."""
    entry = draft.recipe.losses.get(loss)
    config = entry.component.config if entry else None
    return config.players() if isinstance(config, LossConfig) else ("model",) if config else ()


def terms_of(draft: Draft, loss: str) -> tuple[str, ...]:
    """The losses that a composite is made of."""
    entry = draft.recipe.losses.get(loss)
    return entry.component.config.terms() if entry and isinstance(entry.component.config, LossConfig) else ()


def parts_reached(draft: Draft, loss: str) -> tuple[str, ...]:
    """The parts that the gradient of a loss, or of a term of it, reaches: those that it asks for itself, and the shared modules that these use."""
    entries = [draft.recipe.losses[name] for name in (loss, *terms_of(draft, loss)) if name in draft.recipe.losses]
    parts, shared = draft.recipe.parts, draft.names("model", "shared")
    found = {need.partition(".")[0] for entry in entries for need in needs(entry.component.config)}
    found |= {name for part in found & parts.keys() for name in named_parts(parts[part].config) if name in shared}
    return tuple(part for part in (*PARTS, *shared, *draft.names("model", "extra")) if part in found)


def ways(manager: Manager, kind: str, ability: str) -> list[str]:
    """The components of a kind that give an ability: by default, ``"name"``, or with an option turned on, ``"name" (questions = true)``."""
    found = []
    for name in manager.names(kind):
        with contextlib.suppress(UserError):  # a component that fails is no way
            cls = manager.config_class(kind, name)
            with manager.blamed(kind, name, "the config"):
                config = cls(**{field.name: "" for field in keys(cls).values() if field.default is attrs.NOTHING})
                check_answers(config)
            if ability in config.provides():
                found.append(f'"{name}"')
            elif options := switches(config, ability):
                found.append(f'"{name}" ({options[0]})')
    return found


def switches(config: Config, ability: str) -> list[str]:
    """The options that are off and, once on, would give an ability: ``questions = true``, ``augmentation > 0``."""
    found = []
    for key, field in keys(type(config)).items():
        off = getattr(config, field.name)
        if off is False or (type(off) is int and off == 0):
            with contextlib.suppress(Exception, SystemExit):  # another option may not allow it: then it is no hint
                if ability in attrs.evolve(config, **{field.name: type(off)(1)}).provides():
                    found.append(f"{key} = true" if off is False else f"{key} > 0")
    return found


def check_answers(config: Config) -> None:
    """What a config says of itself is asked once while a recipe is read; afterwards the core relies on it. What a method raises passes.

    Raises:
        PluginError: an answer is not what `ibllm_core.host.options` says.
    """
    for name in ("provides", "needs"):
        found = getattr(config, name)()
        _expect(_all(str, found, (frozenset, set)), f"{name}()", found, "a frozenset of strings")
    trainable = config.trainable()
    _expect(_all(str, trainable) and all(trainable), "trainable()", trainable, "a tuple of strings")
    if isinstance(config, LossConfig):
        players, terms = config.players(), config.terms()
        _expect(_all(str, players) and set(players) <= set(PLAYERS), "players()", players, f"a tuple of {' and '.join(PLAYERS)}")
        _expect(_all(str, terms), "terms()", terms, "a tuple of strings")
    if isinstance(config, MetricConfig):
        for name, of, said in (("figures", "Figure", config.figures()), ("marks", "Mark", config.marks())):
            _expect(_all(object, said) and all(attrs.has(type(one)) for one in said), f"{name}()", said, f"a tuple of {of}")
    if isinstance(config, DatasetConfig):
        splits, shape = config.splits(), config.image_shape
        described = isinstance(splits, Mapping) and _all(str, (*splits, *splits.values())) and "train" in splits
        _expect(described, "splits()", splits, "a table of strings by name with 'train': split → what it holds")
        validated, reported = config.validation_split(), config.reported_splits()
        _expect(validated in splits, "validation_split()", validated, f"one of {', '.join(splits)}")
        others = [split for split in splits if split != validated]
        known = _all(str, reported) and set() < set(reported) <= set(others)
        _expect(known, "reported_splits()", reported, f"a tuple of {', '.join(others)}")
        first = config.primary_split()
        _expect(first in reported, "primary_split()", first, f"one of {', '.join(reported)}")
        _expect(_all(int, shape) and len(shape) == 3 and min(shape) > 0, "image_shape", shape, "a tuple (c, h, w)")


def _all(cls: type, found: Any, holders: Any = tuple) -> bool:
    return isinstance(found, holders) and all(isinstance(entry, cls) for entry in found)


def _expect(right: bool, what: str, found: object, expected: str) -> None:
    if not right:
        raise PluginError(f"its {what} gave {found!r}, expected {expected}")
