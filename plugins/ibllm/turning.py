"""Has a run's numbers move: what follows schedules, and what is turned while it trains. A listener, in every process."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from ibllm import knobs
from ibllm.course import Place, arrange, feed, turn, unfit
from ibllm.knobs import Knob
from ibllm_core.errors import UserError
from ibllm_core.recipe.locate import dotted, split_key
from ibllm_core.recipe.schema import Recipe
from ibllm_core.training.events import Failed, Listener, ModelBuilt, Prepared, RunClosed, RunStarted, StageEnded, Stepped, TrainerBuilt

if TYPE_CHECKING:
    pass

#: Seconds between two looks at what other processes ask for.
_EVERY = 0.1


class Courses(Listener):
    """What is turned is taken up at a step boundary: of one process at the next one, of several where figures are read, when all come together."""

    everywhere = essential = True

    def __init__(self) -> None:
        self._known: list[Knob] = []
        self._asked: list[Mapping[str, Any]] = []
        self._looked, self._turned = 0.0, False
        self._fed: tuple[object, ...] = ()

    def on_run_started(self, event: RunStarted) -> None:
        if (found := unfit(event.recipe)) is not None:
            event.against.append(found)

    def on_prepared(self, event: Prepared) -> None:
        self._session = session = event.session
        self._run = session.directory.path
        here = knobs.recorded(self._run) if session.ranks.first else []
        self._known = session.ranks.firsts(here or list(knobs.replayed()))
        self._fed = (*_data(session.recipe), False)
        if sets := [text for knob in self._known for text in knob.set]:
            try:
                knobs.checked(session.recipe, sets)
            except UserError as error:
                event.against.append(UserError(f"what was turned cannot be turned again: {error}"))

    def on_model_built(self, event: ModelBuilt) -> None:
        if self._session.ranks.first:
            knobs.RUNNING[self._run.resolve()] = self._asked.append
            self._record()

    def on_trainer_built(self, event: TrainerBuilt) -> None:
        self._trainer = event.trainer
        self._go()

    def on_stepped(self, event: Stepped) -> None:
        session, every = self._session, self._trainer.stage.training.log_every
        if session.ranks.count == 1 or event.step % every == 0 or event.step == event.stage.steps:
            self._hear(session.ranks.firsts(self._requests()))
        if any(knob.step == session.step for knob in self._known):
            self._go()

    def on_stage_ended(self, event: StageEnded) -> None:
        session = self._session
        if event.stage.name == session.recipe.running()[-1].name:  # what is measured and used has the recipe's own options
            for name, part in session.model.parts.items():
                turn(part, session.recipe.parts[name])

    def on_failed(self, event: Failed) -> None:
        self._leave()

    def on_run_closed(self, event: RunClosed) -> None:
        self._leave()

    def _leave(self) -> None:
        if hasattr(self, "_run"):
            knobs.RUNNING.pop(self._run.resolve(), None)

    def _requests(self) -> list[dict[str, Any]]:
        """What is asked for, in the first process alone; what cannot be turned is told and forgotten."""
        if not self._session.ranks.first:
            return []
        found, now = [dict(one) for one in self._asked], time.monotonic()
        self._asked.clear()
        if now - self._looked >= _EVERY or self._session.ranks.count > 1:
            self._looked = now
            found += knobs.asked(self._run)
        known, sets = {knob.name for knob in self._known}, [text for knob in self._known for text in knob.set]
        over = [str(one["name"]) for one in self._session.records]
        taken = []
        for one in found:
            try:
                if one["name"] not in known:
                    given, at = [str(text) for text in one["set"]], int(one.get("at") or 0)
                    knobs.checked(self._session.recipe, given, sets, over)
                    taken.append({**one, "set": given, "at": at})
            except (ValueError, TypeError, KeyError) as error:  # somebody else than `turn` may have written it
                self._session.tell(f"not turned: {error}")
            if one.get("name") not in {other["name"] for other in taken}:
                knobs.forget(self._run, str(one.get("name")))
        return taken

    def _hear(self, asked: Sequence[Mapping[str, Any]]) -> None:
        """Takes up what is asked for: it is recorded before anything follows from it."""
        if not asked:
            return
        now = self._session.step
        for one in asked:
            step = max(int(one["at"]), now)
            said, by = str(one.get("time", "")), str(one.get("by", ""))
            self._known.append(Knob(name=str(one["name"]), set=tuple(one["set"]), step=step, time=said, by=by))
            self._session.tell(f"turned: {', '.join(one['set'])} from step {step} on" + (f" ({by})" if by else ""))
        self._known.sort(key=lambda knob: knob.step)
        self._record()
        for one in asked if self._session.ranks.first else ():
            knobs.forget(self._run, str(one["name"]))

    def _record(self) -> None:
        if self._known and self._session.ranks.first:
            knobs.record(self._run, self._known)

    def _go(self) -> None:
        """From the present step on the run goes by what is turned so far."""
        session, trainer, now = self._session, self._trainer, self._session.step
        due = [knob for knob in self._known if knob.step <= now]
        fresh = [knob for knob in due if knob.step == now and not knob.stage]
        if fresh:
            stage, step = trainer.stage.name, trainer.step
            self._known = [attrs.evolve(knob, stage=stage, stage_step=step) if knob in fresh else knob for knob in self._known]
            self._record()
        sets = [text for knob in due for text in knob.set]
        recipe = knobs.reread(session.recipe, sets) if sets else session.recipe
        if sets or recipe.scheduled or self._turned:
            arrange(session, trainer, recipe, _shown(recipe, self._known))
            self._turned = True
        moves = any(number.path[0] in ("data", "unpaired") for number in recipe.scheduled)
        if (*_data(recipe), moves) != self._fed:
            feed(session, recipe)
            self._fed = (*_data(recipe), moves)


def _data(recipe: Recipe) -> tuple[object, ...]:
    return recipe.data, dict(recipe.unpaired)


def _shown(recipe: Recipe, known: Sequence[Knob]) -> dict[str, Place]:
    """What is turned at any time is logged throughout."""
    there = knobs.movable(recipe)
    split = [split_key(text) for knob in known for text in knob.set]
    return {key: there[key].place for one in split if one is not None and (key := dotted(one[0])) in there}
