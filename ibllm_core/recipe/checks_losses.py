"""The rules that join losses, stages and the parts they train. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .draft import Draft, needs
from .schema import PARTS, Init, Stage
from .sections import parts_reached, players_of, terms_of


def stages_name_losses(draft: Draft) -> None:
    known = draft.names("losses")
    for name, stage in draft.recipe.stages.items():
        for loss in stage.losses if draft.is_table("losses") else ():
            if loss not in known:
                draft.unknown(("stages", name, "losses", loss), "there is no such loss", loss, known)
        if not stage.losses and stage.steps:
            hint = f"stages.{name}.steps = 0 skips the stage"
            draft.say(("stages", name, "losses"), "the stage has no loss", expected="at least one", hint=hint)


def losses_are_played_by_whom_they_name(draft: Draft) -> None:
    for name, entry in draft.recipe.losses.items():
        if entry.player is not None and entry.player not in players_of(draft, name):
            what = f"{entry.component.use} is not played by the {entry.player}"
            draft.say(("losses", name, "player"), what, expected=" or ".join(players_of(draft, name)))


def losses_are_used(draft: Draft) -> None:
    stages, losses = draft.recipe.stages, draft.recipe.losses
    if not draft.is_table("stages") or len(stages) < len(draft.names("stages")) or len(losses) < len(draft.names("losses")):
        return
    used = {loss for stage in stages.values() for loss in stage.losses} | {term for loss in losses for term in terms_of(draft, loss)}
    for loss in losses:
        if loss not in used:
            expected, hint = "its name in stages.NAME.losses", f"losses.{loss} = false takes it away"
            draft.say(("losses", loss), "the loss is in no stage", expected=expected, hint=hint)


def composites_have_their_terms(draft: Draft) -> None:
    plain = [loss for loss in draft.names("losses") if not terms_of(draft, loss)]
    for loss in draft.recipe.losses:
        for term in terms_of(draft, loss):
            path = ("losses", loss, _option_that_says(draft, loss, term))
            if term not in draft.names("losses"):
                draft.unknown(path, f'its term "{term}" is no loss of this recipe', term, [name for name in plain if name != loss])
            elif term not in plain:
                draft.say(path, f'its term "{term}" is made of terms itself', expected="a loss that stands for itself")


def _option_that_says(draft: Draft, loss: str, term: str) -> str:
    """The key whose value is the term's name, so that the message stands there."""
    table = draft.table("losses", loss)
    return next((key for key, value in table.items() if value == term and key != "use"), "use")


def terms_stand_alone(draft: Draft) -> None:
    """A composite beside its own terms would count them twice."""
    for name, stage in draft.recipe.stages.items():
        for loss, term in ((one, term) for one in stage.losses for term in terms_of(draft, one) if term in stage.losses):
            what = f"{loss} is made of {term} and stands beside it, so it would count twice"
            draft.say(("stages", name, "losses", term), what, expected=f"{loss} or its terms, not both")


def losses_train_something(draft: Draft) -> None:
    """Every loss reaches a part that its stage trains."""
    for stage, loss in _losses_that_run(draft):
        reached, players = set(parts_reached(draft, loss)), players_of(draft, loss)
        if "discriminator" not in players and "model" in players:
            reached -= {"discriminator"}
        if players == ("critic",):
            reached &= {"discriminator"}
        if reached and not reached & set(stage.train) and reached <= set(draft.parts_there()):
            some = " or ".join(part for part in PARTS if part in reached)
            path, expected = ("stages", stage.name, "losses", loss), f"{some} in stages.{stage.name}.train"
            draft.say(path, f"{loss} trains no part in this stage", expected=expected)


def trained_parts_have_a_loss(draft: Draft) -> None:
    """A part that a stage names is reached by one of its losses; a discriminator by one that the critic plays."""
    for stage in (stage for stage in draft.recipe.stages.values() if stage.steps and stage.losses):
        path = ("stages", stage.name, "train")
        if draft.document.get(*path) in (None, "all") or any(loss not in draft.recipe.losses for loss in stage.losses):
            continue
        for part in (part for part in stage.train if part in draft.recipe.parts):
            losses, hint = [loss for loss in stage.losses if part in parts_reached(draft, loss)], f"or leave {part} out"
            if part == "discriminator" and not any("critic" in players_of(draft, loss) for loss in losses):
                what = "the discriminator is trained, but no loss of the stage is the critic's"
                draft.say(path, what, expected="an adversarial loss in the stage", hint=hint)
            elif not losses:
                draft.say(path, f"{part} is trained, but no loss of the stage reaches it", expected="a loss that needs it", hint=hint)


def parts_are_trained_before(draft: Draft) -> None:
    """What a loss goes through is trained in its stage, or was before, or came from another run."""
    recipe, parts = draft.recipe, draft.recipe.parts
    unknown = any(set(stage.train) - set(PARTS) for stage in recipe.stages.values())
    idle = any(stage.steps and not stage.train for stage in recipe.stages.values())
    if unknown or idle or "order" in draft.unread or set(recipe.order) != set(recipe.stages) or set(parts) != set(draft.parts_there()):
        return
    ready = _given(draft, recipe.init) | {name for name, part in recipe.model.parts.items() if part.init}
    for stage in recipe.running():
        ready |= _given(draft, stage.init)
        for loss in (loss for loss in stage.losses if loss in recipe.losses):
            for part in parts_of(draft, loss):
                if part in parts and part not in stage.train and part not in ready:
                    draft.say(
                        ("stages", stage.name, "losses", loss),
                        f"{loss} goes through {part}, which neither this stage trains nor one before it",
                        expected=f"{part} in stages.{stage.name}.train or in an earlier stage's",
                        hint=f"or weights from another run: model.{part}.init",
                    )
        ready |= set(stage.train)


def balances_steer_a_composite(draft: Draft) -> None:
    for name, stage in draft.recipe.stages.items():
        balance = stage.validate.balance if stage.validate else None
        composites = [loss for loss in stage.losses if terms_of(draft, loss)]
        if balance is not None and balance.loss not in composites:
            path = ("stages", name, "validate", "balance", "loss")
            draft.unknown(path, f'"{balance.loss}" is no composite loss of this stage', balance.loss, composites)


def parts_of(draft: Draft, loss: str) -> tuple[str, ...]:
    """The parts that a loss goes through: those that it reaches, and those that these work on without passing a gradient (image tokens)."""
    found, parts = set(parts_reached(draft, loss)), draft.recipe.parts
    todo = list(found)
    while todo:
        component = parts.get(todo.pop())
        more = {need.partition(".")[0] for need in needs(component.config)} - found if component else set()
        found |= more
        todo += more
    return tuple(part for part in PARTS if part in found)


def _given(draft: Draft, init: Init | None) -> set[str]:
    """The parts whose weights come from another run."""
    return set() if init is None else set(init.parts or draft.recipe.parts)


def _losses_that_run(draft: Draft) -> Iterator[tuple[Stage, str]]:
    """The stages that train something, each with every loss of it that could be read."""
    for stage in draft.recipe.stages.values():
        if stage.steps and stage.train:
            yield from ((stage, loss) for loss in stage.losses if loss in draft.recipe.losses)


LOSS_RULES: tuple[Callable[[Draft], None], ...] = (
    stages_name_losses,
    losses_are_played_by_whom_they_name,
    losses_are_used,
    composites_have_their_terms,
    terms_stand_alone,
    losses_train_something,
    trained_parts_have_a_loss,
    parts_are_trained_before,
    balances_steer_a_composite,
)
