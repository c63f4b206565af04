"""Reads the sections of a document into a draft. Torch-free."""

from __future__ import annotations

from typing import TypeVar

import attrs

from ..errors import nearest
from ..host.options import Config, LossConfig
from .draft import Draft, needs
from .mistakes import listing
from .schema import PARTS, UNPAIRED, Component, Compute, EvaluationPlan, LossEntry, PlayerEntry, Seeds, Stage, Training
from .structure import keys, show
from .tables import LossTable, ModelTable, PartTable, PlayerTable, StageTable, TopTable

C = TypeVar("C", bound=Config)

#: Top-level tables.
TABLES = (
    "seed", "plugins", "data", "unpaired", "tokenizers", "model", "losses", "metrics", "trackers",
    "optimizer", "schedule", "players", "training", "stages", "compute", "evaluation",
)  # fmt: skip
#: Who can play.
PLAYERS = ("model", "critic")


def read_sections(draft: Draft) -> None:
    """Everything in the document, in the order that what comes later needs."""
    _top(draft)
    draft.training = _options(draft, Training, "training")
    draft.compute = _options(draft, Compute, "compute")
    draft.evaluation = _options(draft, EvaluationPlan, "evaluation")
    if draft.document.get("data") is None:
        draft.say(("data",), "missing", expected="a table that names a dataset", hint='[data] with use = "shapes", for instance')
    draft.data = _component(draft, "dataset", "data")
    _unpaired(draft)
    draft.tokenizers = _components(draft, "tokenizer", "tokenizers")
    draft.metrics = _components(draft, "metric", "metrics")
    draft.trackers = _components(draft, "tracker", "trackers")
    _model(draft)
    _losses(draft)
    _players(draft)
    _stages(draft)


def _options(draft: Draft, cls: type[C], name: str) -> C:
    return draft.structure(cls, draft.table(name), (name,)) or cls()


def _top(draft: Draft) -> None:
    top = {key: value for key, value in draft.document.data.items() if key not in TABLES}
    read = draft.structure(TopTable, top, (), (*TABLES, "extends"))
    if read is not None:
        draft.name, draft.order, draft.init = read.name, read.order, read.init
    seed = draft.document.data.get("seed", 0)
    if isinstance(seed, dict):
        draft.seed = draft.structure(Seeds, seed, ("seed",)) or Seeds()
    elif type(seed) is not int:
        draft.say(("seed",), f"{show(seed)} has the wrong type", expected="an integer, >= 0, or a table { init, data, evaluation }")
    elif seed < 0:
        draft.say(("seed",), f"{seed} is out of range", expected=">= 0")
    else:
        draft.seed = Seeds(init=seed, data=seed, evaluation=seed)


def _component(draft: Draft, kind: str, *path: str) -> Component | None:
    found = draft.component(kind, path, Config) if draft.document.get(*path) is not None else None
    return found[0] if found else None


def _components(draft: Draft, kind: str, section: str) -> dict[str, Component]:
    draft.table(section)
    found = {name: _component(draft, kind, section, name) for name in draft.names(section)}
    return {name: component for name, component in found.items() if component is not None}


def _unpaired(draft: Draft) -> None:
    for name in draft.table("unpaired"):
        if name not in UNPAIRED:
            draft.unknown(("unpaired", name), "unknown key", name, UNPAIRED)
            continue
        component = _component(draft, "dataset", "unpaired", name)
        if component is not None:
            draft.unpaired[name] = component


def _model(draft: Draft) -> None:
    table = draft.table("model")
    read = draft.structure(ModelTable, {key: value for key, value in table.items() if key not in PARTS}, ("model",), PARTS)
    draft.width = read.width if read else None
    for part in (name for name in table if name in PARTS):
        found = draft.component(part, ("model", part), PartTable)
        if found:
            draft.parts[part] = found[0]


def _losses(draft: Draft) -> None:
    draft.table("losses")
    for name in draft.names("losses"):
        found = draft.component("loss", ("losses", name), LossTable)
        if not found:
            continue
        component, read = found
        draft.losses[name] = LossEntry(component=component, weight=read.weight, every=read.every)
        players = component.config.players() if isinstance(component.config, LossConfig) else ("model",)
        if read.player is not None and read.player not in players:
            draft.say(("losses", name, "player"), f"{component.use} is not played by the {read.player}", expected=" or ".join(players))


def _players(draft: Draft) -> None:
    table = draft.table("players")
    for name in table:
        if name not in PLAYERS:
            draft.say(("players", name), "unknown player", expected=listing(PLAYERS), nearest=nearest(name, PLAYERS))
    if draft.document.get("players", "model", "optimizer") is not None and "optimizer" in draft.document.data:
        draft.say(
            ("players", "model", "optimizer"),
            "the model's optimizer is given twice",
            expected="either this table or the top-level [optimizer]",
        )
    main = _component(draft, "optimizer", "optimizer")
    for name in PLAYERS:
        own = _component(draft, "optimizer", "players", name, "optimizer")
        rest = {key: value for key, value in draft.table("players", name).items() if key != "optimizer"}
        read = draft.structure(PlayerTable, rest, ("players", name), ("optimizer",))
        written = draft.document.get("players", name, "optimizer") is not None or "optimizer" in draft.document.data
        plays = name == "model" or name in table or "discriminator" in draft.parts_there()
        if plays and not written:
            draft.say(("optimizer",), f"missing: the {name} has no optimizer", expected="a table that names an optimizer")
        if plays and read and (own or main):
            draft.players[name] = PlayerEntry(optimizer=own or main, every=read.every)  # type: ignore[arg-type]


def _stages(draft: Draft) -> None:
    draft.table("stages")
    default = _schedule(draft, "schedule") if "schedule" in draft.document.data else _constant(draft)
    if not draft.names("stages") and draft.is_table("stages"):
        draft.say(("stages",), "missing", expected="at least one table [stages.NAME]")
    for name in draft.names("stages"):
        stage = _stage(draft, name, default)
        if stage is not None:
            draft.stages[name] = stage


def _stage(draft: Draft, name: str, default: Component | None) -> Stage | None:
    path = ("stages", name)
    table, settings = draft.table(*path), keys(Training)
    if not isinstance(draft.document.get(*path), dict):
        return None
    schedule = _schedule(draft, *path, "schedule") if "schedule" in table else default
    own = {key: value for key, value in table.items() if key not in settings and key != "schedule"}
    read = draft.structure(StageTable, own, path, (*settings, "schedule"))
    overrides = {key: value for key, value in table.items() if key in settings}
    training = draft.structure(Training, overrides, path)
    train = _trained(draft, name, read) if read else None
    if read is None or training is None or schedule is None or train is None:
        return None
    changed = {settings[key].name: getattr(training, settings[key].name) for key in overrides}
    return Stage(
        name=name,
        steps=read.steps,
        train=train,
        losses=read.losses,
        lr=read.lr,
        schedule=schedule,
        training=attrs.evolve(draft.training, **changed),
        validate=read.validate,
        init=read.init,
        place=draft.place(*path),
    )


def _trained(draft: Draft, name: str, read: StageTable) -> tuple[str, ...] | None:
    """``"all"`` is every part of the model; the discriminator only where the critic plays, so that an adversary can be left out, and the
    image tokenizer only where a loss reaches it: its tokens pass no gradient."""
    if not isinstance(read.train, str):
        return read.train
    if read.train != "all":
        draft.say(("stages", name, "train"), f"{show(read.train)} has the wrong type", expected='"all" or an array of parts')
        return None
    away = set()
    if not any("critic" in players_of(draft, loss) for loss in read.losses):
        away.add("discriminator")
    if not any("image_tokenizer" in parts_reached(draft, loss) for loss in read.losses):
        away.add("image_tokenizer")
    return tuple(part for part in draft.parts_there() if part not in away)


def players_of(draft: Draft, loss: str) -> tuple[str, ...]:
    """Who plays a loss; nobody where it could not be read."""
    entry = draft.losses.get(loss)
    if entry is None:
        return ()
    return entry.component.config.players() if isinstance(entry.component.config, LossConfig) else ("model",)


def terms_of(draft: Draft, loss: str) -> tuple[str, ...]:
    """The losses that a composite is made of."""
    entry = draft.losses.get(loss)
    return entry.component.config.terms() if entry and isinstance(entry.component.config, LossConfig) else ()


def parts_reached(draft: Draft, loss: str) -> tuple[str, ...]:
    """The parts that the gradient of a loss, or of a term of it, reaches: those that it asks for itself."""
    entries = [draft.losses[name] for name in (loss, *terms_of(draft, loss)) if name in draft.losses]
    found = {need.partition(".")[0] for entry in entries for need in needs(entry.component.config)}
    return tuple(part for part in PARTS if part in found)


def _schedule(draft: Draft, *path: str) -> Component | None:
    return _component(draft, "schedule", *path)


def _constant(draft: Draft) -> Component | None:
    """The default schedule, as if the recipe said ``schedule = { use = "constant" }``."""
    draft.document.data["schedule"] = {"use": "constant"}
    try:
        return _schedule(draft, "schedule")
    finally:
        del draft.document.data["schedule"]
