"""What no single table can know: the sections of a recipe joined, before anything is built. Torch-free.

Each rule is a function of the draft that notes what it finds. A rule passes over what could not be read: that has its mistake already.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from ..errors import UserError, nearest
from ..host.options import DatasetConfig, LossConfig
from .draft import Draft, named_parts, needs, parts_reached, players_of, switches, terms_of, ways
from .locate import Component
from .schema import PARTS, READS, UNPAIRED, Init, Recipe, Stage, Validation, place_of
from .words import listing, written


def check_all(draft: Draft) -> None:
    """Applies every rule."""
    for rule in RULES:
        rule(draft)


def stages_are_ordered_and_played(draft: Draft) -> None:
    read = draft.recipe.stages.values()
    if read and len(read) == len(draft.names("stages")) and not any(stage.steps for stage in read):
        draft.say(("order",), "every stage has steps = 0: there is nothing to do", "a stage with steps > 0")
    if "order" in draft.unread or not draft.is_table("stages"):
        return
    stages, order = draft.names("stages"), draft.recipe.order
    draft.all_known(("order",), order, stages, 'there is no stage "{}"')
    meant = {nearest(name, stages) for name in order if name not in stages}
    for name in stages:
        if order.count(name) > 1:
            draft.say(("order",), f'the stage "{name}" is named {order.count(name)} times', "each stage once")
        elif name not in order and name not in meant:
            hint = f"stages.{name}.steps = 0 skips a stage"
            draft.say(("stages", name), "the stage is not in order", "its name in order", hint=hint)


def trained_parts_are_there(draft: Draft) -> None:
    there = draft.parts_there()
    for name, stage in draft.recipe.stages.items():
        path = ("stages", name, "train")
        for part in stage.parts:
            if part in (named := draft.recipe.model.named) and named[part].frozen:
                hint = f"{draft.recipe.place_of(part)}.frozen = false lets it be trained"
                draft.say(path, f"{part} is frozen", "parts that are not", hint=hint)
            elif part not in (*PARTS, *there):
                draft.all_known(path, [part], there, 'there is no part "{}"')
            elif part not in there:
                draft.say(path, f"the model has no {part}", listing(there), hint=f"[model.{part}] would give it one")
        for trained in dict.fromkeys(stage.train):
            if wide := next((other for other in stage.train if trained.startswith(f"{other}.")), ""):
                draft.say(path, f"{trained} is part of {wide}, which is trained whole", f"{wide} or {trained}, not both")
            elif stage.train.count(trained) > 1:
                draft.say(path, f"{trained} is named {stage.train.count(trained)} times", "each part once")
            _can_be_trained_alone(draft, path, trained)
        if stage.steps and draft.document.get(*path) == []:
            draft.say(path, "no part is trained", '"all" or names of parts', hint=f"stages.{name}.steps = 0 skips the stage")


def _can_be_trained_alone(draft: Draft, path: tuple[str, ...], trained: str) -> None:
    """Says that a part has no such sub-module, as its config has it, where a stage names one."""
    part, _, inside = trained.partition(".")
    component = draft.recipe.parts.get(part)
    if component is not None and trained != part and inside not in (able := component.config.trainable()):
        what = f'{part} has no "{inside}" that can be trained alone' if able else f"nothing of {part} can be trained alone"
        expected = listing([*(f"{part}.{name}" for name in able), part])
        draft.say(path, what, expected, nearest=nearest(trained, [f"{part}.{name}" for name in able]), provider=component.provider)


def needs_are_met(draft: Draft) -> None:
    """Data and parts that a component asks for are there, and can do what it asks; captions and images by themselves may be unpaired ones too."""
    recipe, parts = draft.recipe, draft.recipe.parts
    unpaired = {UNPAIRED[name] for name in draft.names("unpaired") if name in UNPAIRED}
    asking = [(tuple(key.split(".")), component) for key, component in recipe.components().items()]
    asking = [(path, component) for path, component in asking if path[0] in ("model", "losses", "metrics") or path[2:] == ("perturb",)]
    for path, component in asking:
        for name, (key, kind) in named_parts(component.config).items() if len(parts) == len(draft.parts_there()) else ():
            known = [part for part, held in parts.items() if held.kind == kind]
            draft.all_known((*path, key), [name], known, f'the model has no {kind} "{{}}"')
    for path, component, need in ((path, one, need) for path, one in asking for need in sorted(needs(one.config))):
        part, _, ability = need.partition(".")
        if part == "data":
            if recipe.data is not None and ability not in recipe.data.config.provides() | unpaired:
                _cannot(draft, path, component, recipe.data, "data", ability)
        elif part in parts:
            if ability and ability not in parts[part].config.provides():
                _cannot(draft, path, component, parts[part], recipe.place_of(part), ability)
        elif part not in draft.parts_there() and not ability and part not in named_parts(component.config):
            what, away = f"{component.use} needs a part that the model lacks: {part}", f"{'.'.join(path)} = false"
            draft.say((*path, "use"), what, f"a table [{place_of(part)}], or {away}")


def _cannot(draft: Draft, path: tuple[str, ...], component: Component, held: Component, table: str, ability: str) -> None:
    """Says that what stands in a table does not provide what a component asks for, and which options or others would."""
    what = f"{component.use} needs {table.removeprefix('model.')}.{ability}, which {held.use} ({held.place}) does not provide"
    ways_out = [f"{table}.{switch}" for switch in switches(held.config, ability)]
    if not ways_out and (able := ways(draft.manager, held.kind, ability)):
        ways_out = [f"[{table}] with use = " + " or ".join(able)]
    ways_out += [f"a table [unpaired.{name}]" for name, given in UNPAIRED.items() if table == "data" and given == ability]
    expected = ", or ".join(ways_out) or f"another {held.kind}; none that is installed provides it"
    draft.say((*path, "use"), what, expected, provider=held.provider)


def parts_fit(draft: Draft) -> None:
    """The tokenizer that a part names is there, and a decoder's explicit ``latent`` is its encoder's width."""
    parts = draft.recipe.parts
    for part, component in parts.items():
        name = getattr(component.config, "tokenizer", None)
        if isinstance(name, str):
            draft.all_known(
                (*place_of(part).split("."), "tokenizer"), [name], draft.names("tokenizers"), "there is no table [tokenizers.{}]"
            )
    for name, extra in draft.recipe.model.extra.items():
        known = [part for part, held in parts.items() if held.kind == READS.get(extra.kind)]
        draft.all_known(("model", "extra", name, "reads"), [extra.reads] if extra.reads else [], known, 'it reads no part "{}"')
    for reader, encoder in ((reader, encoder) for reader in parts if (encoder := draft.recipe.reads(reader))):
        latent, own = getattr(parts[reader].config, "latent", None), getattr(parts[encoder].config, "width", None)
        width = draft.recipe.width if own is None else own
        if latent is None or latent == width or (own is None and "model" in draft.unread):
            continue
        place = draft.place("model", "width") if own is None else draft.place(*place_of(encoder).split("."), "width")
        what = f"the axis d of the latent does not fit: {reader} reads (b n {latent}), {encoder} gives (b n {width})"
        expected = f"{width}, or no latent at all: it then follows {place.key} ({place})"
        draft.say((*place_of(reader).split("."), "latent"), what, expected, provider=parts[reader].provider)


def splits_are_there(draft: Draft) -> None:
    """Splits exist, and none is both looked at for choices and reported."""
    data, reported, strange = draft.recipe.data, draft.recipe.evaluation.splits, 'the data has no split "{}"'
    known = data.config.splits() if data and isinstance(data.config, DatasetConfig) else None
    said = draft.document.get("evaluation", "splits") is not None
    where = draft.place("evaluation", "splits") if said else "evaluation.splits has it by default"
    draft.all_known(("evaluation", "splits"), reported, known, strange)
    for path, validate in _validations(draft):
        if draft.all_known((*path, "split"), [validate.split], known, strange) and validate.split in reported:
            what = f'"{validate.split}" is reported ({where}), so no choice may look at it'
            draft.say((*path, "split"), what, "a split that is not in evaluation.splits")


def figures_are_there(draft: Draft) -> None:
    """Metrics and figures that a validation names are given by the recipe's metrics."""
    given = draft.recipe.figures()
    if len(given) < len(draft.names("metrics")):
        return
    for path, validate in _validations(draft):
        if draft.all_known((*path, "metrics"), validate.metrics, given, 'there is no metric "{}"'):
            figures = [figure for name in given if not validate.metrics or name in validate.metrics for figure in given[name]]
            watched: dict[tuple[str, ...], str] = {("figure",): validate.figure} if validate.figure else {}
            if validate.balance:
                watched |= {("balance", key): getattr(validate.balance, key) for key in ("text", "image")}
            for key, figure in watched.items():
                draft.all_known((*path, *key), [figure], figures, 'no metric used here gives the figure "{}"')


def own_losses_can_be_watched(draft: Draft) -> None:
    """Without a figure a validation watches the stage's loss: less is better, and unpaired data have the split where it needs them."""
    given = draft.recipe.data.config.provides() if draft.recipe.data else frozenset(UNPAIRED.values())
    apart = {name: component.config for name, component in draft.recipe.unpaired.items() if UNPAIRED[name] not in given}
    for path, validate in ((path, validate) for path, validate in _validations(draft) if validate.every and not validate.figure):
        if validate.mode == "max" and (validate.best or validate.patience or validate.plateau):
            what = "no figure is named, so the stage's own loss is watched, and less is better"
            draft.say((*path, "mode"), what, 'mode = "min", or a figure')
        for table, config in apart.items():
            if isinstance(config, DatasetConfig):
                what = f'the stage watches its own loss, but [unpaired.{table}] has no split "{{}}", and the data no {UNPAIRED[table]}'
                draft.all_known((*path, "split"), [validate.split], config.splits(), what)


def inits_name_parts(draft: Draft) -> None:
    inits: dict[tuple[str, ...], Init | None] = {("init",): draft.recipe.init}
    inits |= {("stages", name, "init"): stage.init for name, stage in draft.recipe.stages.items()}
    for path, init in inits.items():
        draft.all_known((*path, "parts"), init.parts if init else (), draft.parts_there(), 'the model has no part "{}"')
    for name, entry in draft.recipe.model.parts.items():
        if entry.init and set(entry.init.parts) - {name}:
            draft.say(("model", name, "init", "parts"), "a part's own init can only give that part", f'["{name}"], or nothing')


def named_parts_fit(draft: Draft) -> None:
    """Shared modules and further parts have names of their own and take one part of a run; further parts read and write the texts of the model's own
    parts of their kinds."""
    model = draft.recipe.model
    for name, entry in model.named.items():
        path, twice = ("model", "shared" if name in model.shared else "extra", name), name in model.shared and name in model.extra
        if name in PARTS or twice or not re.fullmatch(r"[A-Za-z]\w*", name):
            draft.say(path, "no part can be called so", "letters, digits and _, and not the name of a kind or of another part")
        if entry.init and len(entry.init.parts) > 1:
            draft.say((*path, "init", "parts"), "a part takes the weights of one part", "the name of one of the run's parts")
        used, wanted = (getattr(one.component.config, "tokenizer", None) if one else None for one in (entry, model.parts.get(entry.kind)))
        if wanted is not None and used != wanted:
            draft.say((*path, "tokenizer"), f"it is handed the tokens of {entry.kind}", f'"{wanted}"')


def _validations(draft: Draft) -> Iterator[tuple[tuple[str, ...], Validation]]:
    for name, stage in draft.recipe.stages.items():
        if stage.validate is not None:
            yield ("stages", name, "validate"), stage.validate


def named_files_are_there(draft: Draft) -> None:
    """Files, folders and runs that options name are there, and what components find out about them is well; a run's record is not asked."""
    for found in draft.dependencies() if not draft.recorded else ():
        if lacks := found.lacks():
            draft.say(found.path, lacks[0], lacks[1], nearest=lacks[2])
    for key, component in draft.recipe.components().items() if not draft.recorded else ():
        try:
            with draft.manager.blamed(component.kind, component.use, "the check of its options"):
                for wrong in component.config.check():
                    what = f"{written(wrong.value)} is refused"
                    draft.say((*key.split("."), wrong.name), what, wrong.expected, provider=component.provider)
        except UserError as error:
            draft.say((*key.split("."), "use"), str(error))


def batches_can_be_shared(draft: Draft) -> None:
    """A stage's micro-batches have an item each, and its losses can do with them."""
    for name, stage in draft.recipe.stages.items():
        keys = [(*table, key) for table in (("stages", name), ("training",)) for key in ("batch", "accumulate")]
        path = next((path for path in keys if draft.document.get(*path) is not None), ("stages", name))
        for what, expected in unshared(draft.recipe, stage):
            draft.say(path, what, expected)


def unshared(recipe: Recipe, stage: Stage, ranks: int = 1) -> Iterator[tuple[str, str]]:
    """What is wrong, and what would be right, where a stage's batch cannot be shared between so many ranks' micro-batches."""
    batch, micro = stage.training.batch, stage.training.accumulate
    shares = f"{ranks} processes × accumulate = {micro}" if ranks > 1 else f"accumulate = {micro}"
    if batch < ranks * micro:
        yield f"batch = {batch} has too few items for {shares}", f"batch >= {ranks * micro}, or fewer shares"
    found = {name: recipe.losses[name].component for name in stage.losses if name in recipe.losses}
    terms = [term for one in found.values() if isinstance(one.config, LossConfig) for term in one.config.terms()]
    for name in dict.fromkeys([*found, *terms] if ranks * micro > 1 else ()):
        component = found.get(name) or (recipe.losses[name].component if name in recipe.losses else None)
        if component is not None and isinstance(component.config, LossConfig) and component.config.undivided():
            what = f"losses.{name} ({component.provider}) depends on the whole batch and cannot be computed with {shares}"
            yield what, "one process and accumulate = 1, or a loss that represents shares and compares them (WholeBatchLoss)"


def unpaired_data_fit(draft: Draft) -> None:
    """A table gives what it is there for, and its images are of the main data's shape."""
    for name, component in draft.recipe.unpaired.items():
        if UNPAIRED[name] not in component.config.provides():
            what = f"{component.use} gives no {UNPAIRED[name]} as it stands"
            expected = "options with which it does, or use = " + " or ".join(ways(draft.manager, "dataset", UNPAIRED[name]))
            draft.say(("unpaired", name, "use"), what, expected, provider=component.provider)
    images, data = draft.recipe.unpaired.get("images"), draft.recipe.data
    own, main = (component.config if component else None for component in (images, data))
    if images and isinstance(own, DatasetConfig) and isinstance(main, DatasetConfig) and own.image_shape != main.image_shape:
        what = f"its images are (c h w) = {own.image_shape}, those of the main data {main.image_shape}"
        expected = f"images of one shape; [data] is {data.use} ({data.place})"
        draft.say(("unpaired", "images", "size" if hasattr(own, "size") else "use"), what, expected, provider=images.provider)


def stages_name_the_losses(draft: Draft) -> None:
    """Losses that a stage names are there, and each loss is named by a stage or is a composite's term."""
    for name, stage in draft.recipe.stages.items():
        for loss in stage.losses if draft.is_table("losses") else ():
            draft.all_known(("stages", name, "losses", loss), [loss], draft.names("losses"), "there is no such loss")
        if not stage.losses and stage.steps:
            hint = f"stages.{name}.steps = 0 skips the stage"
            draft.say(("stages", name, "losses"), "the stage has no loss", "at least one", hint=hint)
    stages, losses = draft.recipe.stages, draft.recipe.losses
    if not draft.is_table("stages") or len(stages) < len(draft.names("stages")) or len(losses) < len(draft.names("losses")):
        return
    used = {loss for stage in stages.values() for loss in stage.losses} | {term for loss in losses for term in terms_of(draft, loss)}
    for loss in [name for name in losses if name not in used]:
        hint = f"losses.{loss} = false takes it away"
        draft.say(("losses", loss), "the loss is in no stage", "its name in stages.NAME.losses", hint=hint)


def losses_fit(draft: Draft) -> None:
    """The player that a loss names plays it; a composite's terms are plain and do not stand beside it, to count twice; a balance steers a composite."""
    for name, entry in draft.recipe.losses.items():
        if entry.player is not None and entry.player not in (players := players_of(draft, name)):
            draft.say(("losses", name, "player"), f"{entry.component.use} is not played by the {entry.player}", " or ".join(players))
    plain = [loss for loss in draft.names("losses") if not terms_of(draft, loss)]
    for loss, term in ((one, term) for one in draft.recipe.losses for term in terms_of(draft, one)):
        said_by = next((key for key, value in draft.table("losses", loss).items() if value == term and key != "use"), "use")
        where = ("losses", loss, said_by)
        if term not in draft.names("losses"):
            draft.all_known(where, [term], [name for name in plain if name != loss], 'its term "{}" is no loss of this recipe')
        elif term not in plain:
            draft.say(where, f'its term "{term}" is made of terms itself', "a loss that stands for itself")
    for name, stage in draft.recipe.stages.items():
        composites = [loss for loss in stage.losses if terms_of(draft, loss)]
        for loss, term in ((one, term) for one in composites for term in terms_of(draft, one) if term in stage.losses):
            what = f"{loss} is made of {term} and stands beside it, so it would count twice"
            draft.say(("stages", name, "losses", term), what, f"{loss} or its terms, not both")
        if stage.validate and (balance := stage.validate.balance):
            path = ("stages", name, "validate", "balance", "loss")
            draft.all_known(path, [balance.loss], composites, '"{}" is no composite loss of this stage')


def losses_train_something(draft: Draft) -> None:
    """Every loss reaches a part that its stage trains."""
    training = [stage for stage in draft.recipe.stages.values() if stage.steps and stage.parts]
    for stage, loss in ((one, loss) for one in training for loss in one.losses if loss in draft.recipe.losses):
        reached, players = set(parts_reached(draft, loss)), players_of(draft, loss)
        if players == ("model",):
            reached -= draft.recipe.critics()
        if players == ("critic",):
            reached &= draft.recipe.critics()
        if reached and not reached & set(stage.parts) and reached <= set(draft.parts_there()):
            expected = f"{' or '.join(part for part in draft.parts_there() if part in reached)} in stages.{stage.name}.train"
            draft.say(("stages", stage.name, "losses", loss), f"{loss} trains no part in this stage", expected)


def trained_parts_have_a_loss(draft: Draft) -> None:
    """A part that a stage names is reached by one of its losses; a discriminator by one that the critic plays."""
    for stage in draft.recipe.stages.values():
        path, unread = ("stages", stage.name, "train"), set(stage.losses) - set(draft.recipe.losses)
        if not stage.steps or not stage.losses or unread or draft.document.get(*path) in (None, "all"):
            continue
        for part in (part for part in stage.parts if part in draft.recipe.parts):
            losses, hint = [loss for loss in stage.losses if part in parts_reached(draft, loss)], f"or leave {part} out"
            if part in draft.recipe.critics() and not any("critic" in players_of(draft, loss) for loss in losses):
                what = f"the {part} is trained, but no loss of the stage is the critic's"
                draft.say(path, what, "an adversarial loss in the stage", hint=hint)
            elif not losses:
                draft.say(path, f"{part} is trained, but no loss of the stage reaches it", "a loss that needs it", hint=hint)


def parts_are_trained_before(draft: Draft) -> None:
    """What a loss goes through is trained in its stage, or was before, or came from another run."""
    recipe, parts, stages = draft.recipe, draft.recipe.parts, draft.recipe.stages
    unclear = any(set(stage.parts) - {*PARTS, *parts} or (stage.steps and not stage.train) for stage in stages.values())
    if unclear or "order" in draft.unread or set(recipe.order) != set(stages) or set(parts) != set(draft.parts_there()):
        return
    ready = _from_another_run(draft, recipe.init) | {name for name, part in recipe.model.parts.items() if part.init}
    ready |= {name for name, entry in recipe.model.named.items() if entry.init or entry.frozen}
    ready |= {name for name, part in parts.items() if "ready" in part.config.provides()}
    for stage in recipe.running():
        ready |= _from_another_run(draft, stage.init) | set(stage.parts)
        for loss in (loss for loss in stage.losses if loss in recipe.losses):
            for part in (part for part in _gone_through(draft, loss) if part in parts and part not in ready):
                what = f"{loss} goes through {part}, which neither this stage trains nor one before it"
                expected = f"{part} in stages.{stage.name}.train or in an earlier stage's"
                hint = f"or weights from another run: {recipe.place_of(part)}.init"
                draft.say(("stages", stage.name, "losses", loss), what, expected, hint=hint)


def _from_another_run(draft: Draft, init: Init | None) -> set[str]:
    return set() if init is None else set(init.parts or draft.recipe.parts)


def _gone_through(draft: Draft, loss: str) -> list[str]:
    """The parts that a loss reaches, and those that these work on without passing a gradient (image tokens)."""
    found = list(parts_reached(draft, loss))
    for part in found:  # it grows
        component = draft.recipe.parts.get(part)
        more = {need.partition(".")[0] for need in needs(component.config)} if component else set()
        found += more.difference(found)
    return [part for part in draft.parts_there() if part in found]


RULES: tuple[Callable[[Draft], None], ...] = (
    stages_are_ordered_and_played,
    trained_parts_are_there,
    needs_are_met,
    parts_fit,
    splits_are_there,
    figures_are_there,
    own_losses_can_be_watched,
    inits_name_parts,
    named_parts_fit,
    named_files_are_there,
    batches_can_be_shared,
    unpaired_data_fit,
    stages_name_the_losses,
    losses_fit,
    losses_train_something,
    trained_parts_have_a_loss,
    parts_are_trained_before,
)
