"""What no single table can know: the sections of a recipe joined, before anything is built. Torch-free.

Each rule is a function of the draft that notes what it finds. A rule passes over what could not be read: that has its mistake already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from ..errors import nearest
from ..host.options import DatasetConfig
from .checks_losses import LOSS_RULES
from .draft import Draft, at_defaults, offers, switches
from .schema import PARTS, READS, UNPAIRED, Component, Init, Validation
from .words import listing


def check_all(draft: Draft) -> None:
    """Applies every rule."""
    for rule in (*RULES, *LOSS_RULES):
        rule(draft)


def order_names_every_stage(draft: Draft) -> None:
    if "order" in draft.unread or not draft.is_table("stages"):
        return
    stages = draft.names("stages")
    meant = {nearest(name, stages) for name in draft.recipe.order if name not in stages}
    for name, count in Counter(draft.recipe.order).items():
        if name not in stages:
            draft.unknown(("order",), f'there is no stage "{name}"', name, stages)
        elif count > 1:
            draft.say(("order",), f'the stage "{name}" is named {count} times', expected="each stage once")
    for name in stages:
        if name not in draft.recipe.order and name not in meant:
            draft.say(
                ("stages", name), "the stage is not in order", expected="its name in order", hint=f"stages.{name}.steps = 0 skips a stage"
            )


def something_is_played(draft: Draft) -> None:
    stages = draft.recipe.stages.values()
    if stages and len(stages) == len(draft.names("stages")) and not any(stage.steps for stage in stages):
        draft.say(("order",), "every stage has steps = 0: there is nothing to do", expected="a stage with steps > 0")


def trained_parts_are_there(draft: Draft) -> None:
    there = draft.parts_there()
    for name, stage in draft.recipe.stages.items():
        path = ("stages", name, "train")
        for part, count in Counter(stage.train).items():
            if part not in PARTS:
                draft.unknown(path, f'there is no part "{part}"', part, there)
            elif part not in there:
                draft.say(path, f"the model has no {part}", expected=listing(there), hint=f"[model.{part}] would give it one")
            elif count > 1:
                draft.say(path, f"{part} is named {count} times", expected="each part once")
        if stage.steps and draft.document.get(*path) == []:
            draft.say(path, "no part is trained", expected='"all" or names of parts', hint=f"stages.{name}.steps = 0 skips the stage")


def needs_are_met(draft: Draft) -> None:
    """Data and parts that a component asks for are there, and can do what it asks; captions and images by themselves may be unpaired ones too."""
    recipe, parts = draft.recipe, draft.recipe.parts
    unpaired = {UNPAIRED[name] for name in draft.names("unpaired") if name in UNPAIRED}
    for path, component, need in draft.all_needs():
        part, _, ability = need.partition(".")
        if part == "data":
            if recipe.data is not None and ability not in recipe.data.config.provides() | unpaired:
                _cannot(draft, path, component, recipe.data, "data", ability)
        elif part in parts:
            if ability and ability not in parts[part].config.provides():
                _cannot(draft, path, component, parts[part], f"model.{part}", ability)
        elif part not in draft.parts_there() and not ability:
            what, away = f"{component.use} needs a part that the model lacks: {part}", f"{'.'.join(path)} = false"
            draft.say((*path, "use"), what, expected=f"a table [model.{part}], or {away}")


def _cannot(draft: Draft, path: tuple[str, str], component: Component, held: Component, table: str, ability: str) -> None:
    """Says that what stands in a table does not provide what a component asks for, and which options or others would."""
    turned_on = [f"{table}.{switch}" for switch in switches(held.config, ability)]
    able = [f'"{name}"{way}' for name in draft.manager.names(held.kind) if (way := _way(draft, held.kind, name, ability)) is not None]
    others = [f"[{table}] with use = " + " or ".join(able)] if able and not turned_on else []
    further = [f"a table [unpaired.{name}]" for name, given in UNPAIRED.items() if table == "data" and given == ability]
    thing = "dataset" if table == "data" else held.kind
    draft.say(
        (*path, "use"),
        f"{component.use} needs {table.removeprefix('model.')}.{ability}, which {held.use} ({held.place}) does not provide",
        expected=", or ".join([*turned_on, *others, *further]) or f"another {thing}; none that is installed provides it",
        provider=held.provider,
    )


def _way(draft: Draft, part: str, name: str, ability: str) -> str | None:
    """How a component provides an ability: as it is, ``""``, or with an option; None where it does not."""
    if ability in offers(draft.manager, part, name):
        return ""
    options = switches(at_defaults(draft.manager, part, name), ability)
    return f" ({options[0]})" if options else None


def latents_fit(draft: Draft) -> None:
    """A decoder's explicit ``latent`` is its encoder's width."""
    parts = draft.recipe.parts
    for reader, encoder in READS.items():
        if reader not in parts or encoder not in parts:
            continue
        latent = getattr(parts[reader].config, "latent", None)
        own = getattr(parts[encoder].config, "width", None)
        width = draft.recipe.width if own is None else own
        if latent is None or latent == width or (own is None and "model" in draft.unread):
            continue
        place = draft.place("model", encoder, "width") if own is not None else draft.place("model", "width")
        draft.say(
            ("model", reader, "latent"),
            f"the axis d of the latent does not fit: {reader} reads (b n {latent}), {encoder} gives (b n {width})",
            expected=f"{width}, or no latent at all: it then follows {place.key} ({place})",
            provider=parts[reader].provider,
        )


def tokenizers_are_there(draft: Draft) -> None:
    for part, component in draft.recipe.parts.items():
        name = getattr(component.config, "tokenizer", None)
        if isinstance(name, str) and name not in draft.names("tokenizers"):
            draft.unknown(("model", part, "tokenizer"), f"there is no table [tokenizers.{name}]", name, draft.names("tokenizers"))


def splits_are_there(draft: Draft) -> None:
    """Splits exist, and none is both looked at for choices and reported."""
    data = draft.recipe.data.config if draft.recipe.data else None
    known = tuple(data.splits()) if isinstance(data, DatasetConfig) else None
    reported = draft.recipe.evaluation.splits
    said = draft.document.get("evaluation", "splits") is not None
    where = draft.place("evaluation", "splits") if said else "evaluation.splits has it by default"
    for split in reported:
        if known is not None and split not in known:
            draft.unknown(("evaluation", "splits"), f'the data has no split "{split}"', split, known)
    for path, validate in _validations(draft):
        if known is not None and validate.split not in known:
            draft.unknown((*path, "split"), f'the data has no split "{validate.split}"', validate.split, known)
        elif validate.split in reported:
            what = f'"{validate.split}" is reported ({where}), so no choice may look at it'
            draft.say((*path, "split"), what, expected="a split that is not in evaluation.splits")


def figures_are_there(draft: Draft) -> None:
    """Metrics and figures that a validation names are given by the recipe's metrics."""
    given = draft.recipe.figures()
    if len(given) < len(draft.names("metrics")):
        return
    for path, validate in _validations(draft):
        strange = [name for name in validate.metrics if name not in given]
        for name in strange:
            draft.unknown((*path, "metrics"), f'there is no metric "{name}"', name, given)
        if strange:
            continue
        figures = [figure for name, names in given.items() if not validate.metrics or name in validate.metrics for figure in names]
        watched = {"figure": validate.figure} if validate.figure else {}
        if validate.balance:
            watched |= {"text": validate.balance.text, "image": validate.balance.image}
        for key, figure in watched.items():
            if figure not in figures:
                at = (*path, key) if key == "figure" else (*path, "balance", key)
                draft.unknown(at, f'no metric used here gives the figure "{figure}"', figure, figures)


def losses_are_watched_downwards(draft: Draft) -> None:
    """Without a figure a validation watches the stage's own loss, of which less is better."""
    for path, validate in _validations(draft):
        steers = validate.best or validate.patience or validate.plateau
        if validate.every and not validate.figure and validate.mode == "max" and steers:
            what = "no figure is named, so the stage's own loss is watched, and less is better"
            draft.say((*path, "mode"), what, expected='mode = "min", or a figure')


def inits_name_parts(draft: Draft) -> None:
    inits: dict[tuple[str, ...], Init | None] = {("init",): draft.recipe.init}
    inits |= {("stages", name, "init"): stage.init for name, stage in draft.recipe.stages.items()}
    there = draft.parts_there()
    for path, init in inits.items():
        for part in init.parts if init else ():
            if part not in there:
                draft.unknown((*path, "parts"), f'the model has no part "{part}"', part, there)
    for name, entry in draft.recipe.model.parts.items():
        if entry.init and set(entry.init.parts) - {name}:
            draft.say(("model", name, "init", "parts"), "a part's own init can only give that part", expected=f'["{name}"], or nothing')


def _validations(draft: Draft) -> Iterable[tuple[tuple[str, ...], Validation]]:
    for name, stage in draft.recipe.stages.items():
        if stage.validate is not None:
            yield ("stages", name, "validate"), stage.validate


def unpaired_data_fit(draft: Draft) -> None:
    """A table gives what it is there for, and its images are of the main data's shape."""
    for name, component in draft.recipe.unpaired.items():
        wanted, path = UNPAIRED[name], ("unpaired", name)
        if wanted not in component.config.provides():
            able = [other for other in draft.manager.names("dataset") if wanted in offers(draft.manager, "dataset", other)]
            expected = "options with which it does, or use = " + " or ".join(f'"{other}"' for other in able)
            draft.say((*path, "use"), f"{component.use} gives no {wanted} as it stands", expected=expected, provider=component.provider)
    images, data = draft.recipe.unpaired.get("images"), draft.recipe.data
    own, main = images.config if images else None, data.config if data else None
    if images and data and isinstance(own, DatasetConfig) and isinstance(main, DatasetConfig) and own.image_shape != main.image_shape:
        draft.say(
            ("unpaired", "images", "size" if hasattr(own, "size") else "use"),
            f"its images are (c h w) = {own.image_shape}, those of the main data {main.image_shape}",
            expected=f"images of one shape; [data] is {data.use} ({data.place})",
            provider=images.provider,
        )


def held_out_losses_have_data(draft: Draft) -> None:
    """A stage that watches its own loss finds, in the split it looks at, what the data alone do not give."""
    given = draft.recipe.data.config.provides() if draft.recipe.data else frozenset(UNPAIRED.values())
    apart = {name: component.config for name, component in draft.recipe.unpaired.items() if UNPAIRED[name] not in given}
    for path, validate in _validations(draft):
        for table, config in apart.items() if validate.every and not validate.figure else ():
            if isinstance(config, DatasetConfig) and validate.split not in config.splits():
                what = f'the stage watches its own loss, but [unpaired.{table}] has no split "{validate.split}", and the data no {UNPAIRED[table]}'
                draft.unknown((*path, "split"), what, validate.split, config.splits())


RULES: tuple[Callable[[Draft], None], ...] = (
    order_names_every_stage,
    something_is_played,
    trained_parts_are_there,
    needs_are_met,
    latents_fit,
    tokenizers_are_there,
    splits_are_there,
    figures_are_there,
    losses_are_watched_downwards,
    inits_name_parts,
    unpaired_data_fit,
    held_out_losses_have_data,
)
