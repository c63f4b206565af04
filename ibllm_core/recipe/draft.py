"""A recipe while it is read: what could be read so far, and what could not. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import attrs

from ..errors import UserError, nearest
from ..host.manager import Manager, UnknownComponent
from ..host.options import Config, LossConfig, MetricConfig
from ..host.spec import KINDS
from .answers import check_answers
from .document import Document
from .mistakes import Mistakes, listing
from .schema import PARTS, Component, Compute, EvaluationPlan, Init, LossEntry, Place, PlayerEntry, Plugins, Seeds, Stage, Training
from .structure import keys, show, structure

C = TypeVar("C", bound=Config)


@attrs.define(kw_only=True)
class Draft:
    """The sections as far as they could be read. What is missing here and stands in `document` has its mistake already."""

    document: Document
    manager: Manager
    mistakes: Mistakes
    name: str = ""
    seed: Seeds = Seeds()
    order: tuple[str, ...] | None = None
    init: Init | None = None
    width: int | None = None
    data: Component | None = None
    unpaired: dict[str, Component] = attrs.field(factory=dict)
    tokenizers: dict[str, Component] = attrs.field(factory=dict)
    parts: dict[str, Component] = attrs.field(factory=dict)
    losses: dict[str, LossEntry] = attrs.field(factory=dict)
    metrics: dict[str, Component] = attrs.field(factory=dict)
    trackers: dict[str, Component] = attrs.field(factory=dict)
    players: dict[str, PlayerEntry] = attrs.field(factory=dict)
    stages: dict[str, Stage] = attrs.field(factory=dict)
    training: Training = Training()
    compute: Compute = Compute()
    evaluation: EvaluationPlan = EvaluationPlan()
    plugins: Plugins = Plugins()

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
        names = self.names("model")
        meant = {nearest(name, PARTS) for name in names if name not in PARTS}
        return tuple(part for part in PARTS if part in names or part in meant)

    def all_needs(self) -> Iterator[tuple[tuple[str, str], Component, str]]:
        """The key path of every part, loss and metric, the component, and one thing that it asks of others."""
        found = {("model", name): component for name, component in self.parts.items()}
        found |= {("losses", name): entry.component for name, entry in self.losses.items()}
        found |= {("metrics", name): component for name, component in self.metrics.items()}
        for path, component in found.items():
            for need in sorted(needs(component.config)):
                yield path, component, need

    def place(self, *path: str | int) -> Place:
        return self.document.place(*path)

    def say(
        self, path: Iterable[str | int], what: str, *, expected: str = "", nearest: str = "", hint: str = "", provider: str = ""
    ) -> None:
        """Notes a mistake at a key path."""
        self.mistakes.add(self.document.place(*path), what, expected=expected, nearest=nearest, hint=hint, provider=provider)

    def unknown(self, path: tuple[str | int, ...], what: str, word: object, known: Iterable[str], hint: str = "") -> None:
        """Notes a name that is not among those known."""
        names = list(known)
        self.say(path, what, expected=listing(names), nearest=nearest(word, names), hint=hint)

    def table(self, *path: str) -> dict[str, Any]:
        """The table at a path, empty where there is none or something else (a mistake then)."""
        value = self.document.get(*path)
        if value is None:
            return {}
        if not isinstance(value, dict):
            example = f' with use = "{value}"' if isinstance(value, str) else ""
            self.say(path, f"{show(value)} has the wrong type", expected=f"a table{example}")
            return {}
        return value

    def structure(
        self, cls: type[C], table: Mapping[str, Any], path: tuple[str, ...], also: Iterable[str] = (), provider: str = ""
    ) -> C | None:
        """An instance of `cls`, or None once its mistakes are noted."""
        done = structure(cls, table, also)
        if not isinstance(done, list):
            return done
        for flaw in done:
            self.say((*path, *flaw.path), flaw.what, expected=flaw.expected, nearest=flaw.nearest, provider=provider)
        return None

    def component(self, kind: str, path: tuple[str, ...], header: type[C], more: Iterable[str] = ()) -> tuple[Component, C] | None:
        """The component that a table names, and the recipe's own keys beside its options; None once the mistakes are noted.

        Args:
            header: the recipe's own keys; `more` are keys of the table that others read.
        """
        table = {key: value for key, value in self.table(*path).items() if key not in more}
        if not isinstance(self.document.get(*path), dict):
            return None
        own = ["use", *keys(header)]
        read = self.structure(header, {key: value for key, value in table.items() if key in own and key != "use"}, path)
        use = table.get("use")
        if not isinstance(use, str):
            what = f"{show(use)} has the wrong type" if "use" in table else "missing"
            self.say((*path, "use"), what, expected=f"the name of {_article(kind)}: " + listing(self.manager.names(kind)))
            return None
        try:
            spec, provider = self.manager.get(kind, use), self.manager.provider(kind, use)
            config_class = self.manager.config_class(kind, use)
        except UnknownComponent as error:
            self._no_such(error, path)
            return None
        except UserError as error:
            self.say((*path, "use"), str(error))
            return None
        rest = {key: value for key, value in table.items() if key not in own}
        try:
            with self.manager.blamed(kind, use, "the config"):
                config = self.structure(config_class, rest, path, (*own, *more), describe_provider(kind, use, provider))
                if config is not None:
                    check_answers(config)
        except UserError as error:
            self.say((*path, "use"), str(error))
            return None
        if config is None or read is None:
            return None
        place = attrs.evolve(self.place(*path, "use"), key=self.place(*path).key)
        component = Component(
            kind=kind,
            use=use,
            config=config,
            spec=spec,
            place=place,
            distribution=provider[0],
            version=provider[1],
            init=getattr(read, "init", None),
        )
        return component, read

    def _no_such(self, error: UnknownComponent, path: tuple[str, ...]) -> None:
        elsewhere = [kind for kind in KINDS if error.name in self.manager.names(kind)]
        hints = [f"{error.name} is the name of {' and '.join(map(_article, elsewhere))}."] if elsewhere else []
        what = f'{error.clash}no {error.kind} is called "{error.name}"'
        self.unknown((*path, "use"), what, error.name, error.known, " ".join([*hints, *error.hints]))


def describe_provider(kind: str, use: str, provider: tuple[str, str]) -> str:
    """``text_encoder.lstm of ibllm 0.1.0``"""
    return f"{kind}.{use} of {provider[0]} {provider[1]}"


def provider_of(component: Component) -> str:
    return describe_provider(component.kind, component.use, (component.distribution, component.version))


def needs(config: Config) -> frozenset[str]:
    """What a component asks of others; a critic's loss asks for a critic and a metric for some data, whether they say so or not."""
    said = config.needs()
    critic = isinstance(config, LossConfig) and "critic" in config.players()
    measures = isinstance(config, MetricConfig) and not any(need.startswith("data.") for need in said)
    return said | ({"discriminator"} if critic else frozenset()) | ({"data.pairs"} if measures else frozenset())


def at_defaults(manager: Manager, kind: str, name: str) -> Config | None:
    """A component's options as they are by default; None where that fails or there are options without a default that are no strings."""
    try:
        cls = manager.config_class(kind, name)
        with manager.blamed(kind, name, "the config"):
            config = cls(**{field.name: "" for field in keys(cls).values() if field.default is attrs.NOTHING})
            check_answers(config)
            return config
    except UserError:
        return None


def offers(manager: Manager, kind: str, name: str) -> frozenset[str]:
    """What a component provides at its defaults."""
    config = at_defaults(manager, kind, name)
    return config.provides() if config else frozenset()


def switches(config: Config | None, ability: str) -> list[str]:
    """The options that are off and, once on, would give an ability: ``questions = true``, ``augmentation > 0``."""
    found = []
    for key, field in keys(type(config)).items() if config else ():
        off = getattr(config, field.name)
        if (off is False or (type(off) is int and off == 0)) and _would_give(config, field.name, type(off)(1), ability):
            found.append(f"{key} = true" if off is False else f"{key} > 0")
    return found


def _would_give(config: Config | None, name: str, value: object, ability: str) -> bool:
    try:
        return config is not None and ability in attrs.evolve(config, **{name: value}).provides()
    except (Exception, SystemExit):  # another option may not allow it, or the config is wrong: there is no hint to give then
        return False


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
