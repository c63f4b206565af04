"""What no single table can know: the sections of a recipe joined, before anything is built. Torch-free.

Each rule is a function of the draft that notes what it finds. A rule passes over what could not be read: that has its mistake already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from ..errors import nearest
from ..host.options import DatasetConfig, MetricConfig
from .checks_losses import LOSS_RULES
from .draft import Draft, at_defaults, offers, provider_of, switches
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
                ("stages", name),
                "the stage is not in order",
                expected="its name in order",
                hint=f"stages.{name}.steps = 0 skips a stage",
            )


def something_is_played(draft: Draft) -> None:
    if (
        draft.recipe.stages
        and len(draft.recipe.stages) == len(draft.names("stages"))
        and not any(stage.steps for stage in draft.recipe.stages.values())
    ):
        draft.say(("order",), "every stage has steps = 0: there is nothing to do", expected="a stage with steps > 0")


def trained_parts_are_there(draft: Draft) -> None:
    there = draft.parts_there()
    for name, stage in draft.recipe.stages.items():
        path = ("stages", name, "train")
        for part, count in Counter(stage.train).items():
            if part not in PARTS:
                draft.unknown(path, f'there is no part "{part}"', part, there)
            elif part not in there:
                draft.say(
                    path,
                    f"the model has no {part}",
                    expected=listing(there),
                    hint=f"[model.{part}] would give it one",
                )
            elif count > 1:
                draft.say(path, f"{part} is named {count} times", expected="each part once")
        if stage.steps and draft.document.get(*path) == []:
            draft.say(path, "no part is trained", expected='"all" or names of parts', hint=f"stages.{name}.steps = 0 skips the stage")


def needs_are_met(draft: Draft) -> None:
    """Parts that a component asks for are there, and can do what it asks."""
    for path, component, need in draft.all_needs():
        part, _, ability = need.partition(".")
        if part == "data":
            continue
        if part not in draft.parts_there():
            if not ability:
                _part_is_missing(draft, path, component, part)
        elif ability and part in draft.recipe.parts and ability not in draft.recipe.parts[part].config.provides():
            _part_cannot(draft, path, component, part, ability)


def _part_is_missing(draft: Draft, path: tuple[str, str], component: Component, part: str) -> None:
    away = f", or {path[0]}.{path[1]} = false"
    draft.say((*path, "use"), f"{component.use} needs a part that the model lacks: {part}", expected=f"a table [model.{part}]{away}")


def _part_cannot(draft: Draft, path: tuple[str, str], component: Component, part: str, ability: str) -> None:
    held = draft.recipe.parts[part]
    able = [f'"{name}"{way}' for name in draft.manager.names(part) if (way := _way(draft, part, name, ability)) is not None]
    turned_on = [f"model.{part}.{switch}" for switch in switches(held.config, ability)]
    others = [f"[model.{part}] with use = " + " or ".join(able)] if able else []
    draft.say(
        (*path, "use"),
        f"{component.use} needs {part}.{ability}, which {held.use} ({held.place}) does not provide",
        expected=", or ".join(turned_on or others) or f"another {part}; none that is installed provides it",
        provider=provider_of(held),
    )


def _way(draft: Draft, part: str, name: str, ability: str) -> str | None:
    """How a component provides an ability: as it is, ``""``, or with an option; None where it does not."""
    if ability in offers(draft.manager, part, name):
        return ""
    options = switches(at_defaults(draft.manager, part, name), ability)
    return f" ({options[0]})" if options else None


def latents_fit(draft: Draft) -> None:
    """A decoder's explicit ``latent`` is its encoder's width."""
    for reader, encoder in READS.items():
        if reader not in draft.recipe.parts or encoder not in draft.recipe.parts:
            continue
        latent = getattr(draft.recipe.parts[reader].config, "latent", None)
        own = getattr(draft.recipe.parts[encoder].config, "width", None)
        width = draft.recipe.width if own is None else own
        if latent is None or latent == width or (own is None and "model" in draft.unread):
            continue
        giver = ("model", encoder, "width") if own is not None else ("model", "width")
        place = draft.place(*giver)
        draft.say(
            ("model", reader, "latent"),
            f"the axis d of the latent does not fit: {reader} reads (b n {latent}), {encoder} gives (b n {width})",
            expected=f"{width}, or no latent at all: it then follows {place.key} ({place})",
            provider=provider_of(draft.recipe.parts[reader]),
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
    where = (
        draft.place("evaluation", "splits")
        if draft.document.get("evaluation", "splits") is not None
        else "evaluation.splits has it by default"
    )
    for split in reported:
        if known is not None and split not in known:
            draft.unknown(("evaluation", "splits"), f'the data has no split "{split}"', split, known)
    for path, validate in _validations(draft):
        if known is not None and validate.split not in known:
            draft.unknown((*path, "split"), f'the data has no split "{validate.split}"', validate.split, known)
        elif validate.split in reported:
            draft.say(
                (*path, "split"),
                f'"{validate.split}" is reported ({where}), so no choice may look at it',
                expected="a split that is not in evaluation.splits",
            )


def figures_are_there(draft: Draft) -> None:
    """Metrics and figures that a validation names are given by the recipe's metrics."""
    if len(draft.recipe.metrics) < len(draft.names("metrics")):
        return
    for path, validate in _validations(draft):
        for name in validate.metrics:
            if name not in draft.recipe.metrics:
                draft.unknown((*path, "metrics"), f'there is no metric "{name}"', name, draft.recipe.metrics)
        if any(name not in draft.recipe.metrics for name in validate.metrics):
            continue
        used = {name: metric for name, metric in draft.recipe.metrics.items() if not validate.metrics or name in validate.metrics}
        figures = [figure for metric in used.values() if isinstance(metric.config, MetricConfig) for figure in metric.config.names()]
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
            draft.say(
                (*path, "mode"),
                "no figure is named, so the stage's own loss is watched, and less is better",
                expected='mode = "min", or a figure',
            )


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


def data_needs_are_met(draft: Draft) -> None:
    """The data give what losses and metrics ask for; captions and images by themselves may be unpaired ones too."""
    if draft.recipe.data is None:
        return
    given = draft.recipe.data.config.provides() | {UNPAIRED[name] for name in draft.names("unpaired") if name in UNPAIRED}
    for path, component, need in draft.all_needs():
        where, _, ability = need.partition(".")
        if where == "data" and ability not in given:
            _data_cannot(draft, path, component, draft.recipe.data, ability)


def _data_cannot(draft: Draft, path: tuple[str, str], component: Component, data: Component, ability: str) -> None:
    turned_on = [f"data.{switch}" for switch in switches(data.config, ability)]
    able = [name for name in draft.manager.names("dataset") if ability in offers(draft.manager, "dataset", name)]
    others = ["[data] with use = " + " or ".join(f'"{name}"' for name in able)] if able else []
    tables = [f"a table [unpaired.{name}]" for name, given in UNPAIRED.items() if given == ability]
    draft.say(
        (*path, "use"),
        f"{component.use} needs data.{ability}, which {data.use} ({data.place}) does not provide",
        expected=", or ".join([*turned_on, *others, *tables]) or "another dataset; none that is installed provides it",
        provider=provider_of(data),
    )


def unpaired_data_fit(draft: Draft) -> None:
    """A table gives what it is there for, and its images are of the main data's shape."""
    for name, component in draft.recipe.unpaired.items():
        wanted, path = UNPAIRED[name], ("unpaired", name)
        if wanted not in component.config.provides():
            able = [other for other in draft.manager.names("dataset") if wanted in offers(draft.manager, "dataset", other)]
            draft.say(
                (*path, "use"),
                f"{component.use} gives no {wanted} as it stands",
                expected="options with which it does, or use = " + " or ".join(f'"{other}"' for other in able),
                provider=provider_of(component),
            )
    images = draft.recipe.unpaired.get("images")
    if images is None or draft.recipe.data is None:
        return
    own, main = images.config, draft.recipe.data.config
    if isinstance(own, DatasetConfig) and isinstance(main, DatasetConfig) and own.image_shape != main.image_shape:
        draft.say(
            ("unpaired", "images", "size" if hasattr(own, "size") else "use"),
            f"its images are (c h w) = {own.image_shape}, those of the main data {main.image_shape}",
            expected=f"images of one shape; [data] is {draft.recipe.data.use} ({draft.recipe.data.place})",
            provider=provider_of(images),
        )


def held_out_losses_have_data(draft: Draft) -> None:
    """A stage that watches its own loss finds, in the split it looks at, what the data alone do not give."""
    if draft.recipe.data is None:
        return
    for name, stage in draft.recipe.stages.items():
        plan = stage.validate
        if plan is None or not plan.every or plan.figure:
            continue
        for table, wanted in UNPAIRED.items():
            component = draft.recipe.unpaired.get(table)
            if component is None or wanted in draft.recipe.data.config.provides() or not isinstance(component.config, DatasetConfig):
                continue
            splits = component.config.splits()
            if plan.split not in splits:
                draft.unknown(
                    ("stages", name, "validate", "split"),
                    f'the stage watches its own loss, but [unpaired.{table}] has no split "{plan.split}", and the data no {wanted}',
                    plan.split,
                    splits,
                )


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
    data_needs_are_met,
    unpaired_data_fit,
    held_out_losses_have_data,
)
