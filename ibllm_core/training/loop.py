"""The loop over one stage's iterations: log, validate, checkpoint, stop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, closing

import numpy as np

from ..errors import UserError
from ..interfaces.batch import Batch, collate, take
from ..model.players import MODEL
from ..model.shares import Ranks
from ..model.stage import StageTrainer
from ..recipe.locate import dotted
from ..recipe.schema import Stage, Validation
from .events import Logged, NotFinite, Stepped, Validated
from .session import Session


class Interrupted(Exception):
    """The run was asked to stop and did, at a step boundary, with a checkpoint."""


class GoBack(Exception):
    """The stage is to go on from a checkpoint (``args[0]``), from which the session has taken back all but the stage's own state."""


class Diverged(UserError):
    """A loss or a gradient is no longer a number."""


def train_stage(session: Session, stage: Stage, number: int, trainer: StageTrainer) -> str:
    """Trains a stage from the trainer's step to its end; returns a note on how it ended, empty where it ran all its steps.

    Raises:
        Interrupted: a checkpoint is written.
        Diverged: a figure, or what a checkpoint would hold, is not finite; the last checkpoint is from before.
    """
    settings, ranks = stage.training, session.ranks
    if session.recipe.scheduled and trainer.course is None:
        raise UserError(f"{dotted(session.recipe.scheduled[0].path)} follows a schedule; what has it do so is blocked: the listener course")
    listened = session.bus.listens(Stepped)
    with session.bus.clock.timed(stage.name), ExitStack() as feeding:
        batches = iter(feeding.enter_context(closing(session.feeder(stage, trainer.step))))
        clock = session.bus.clock.read()[stage.name]
        while trainer.step < stage.steps:
            trainer.iterate(_next(batches, session, number, trainer))
            session.step += 1
            step, last = trainer.step, trainer.step == stage.steps
            if listened:
                moved = session.moved
                session.bus.emit(Stepped(stage, step))
                if session.moved is not moved:  # what was made ahead is of the data as they were
                    feeding.close()
                    batches = iter(feeding.enter_context(closing(session.feeder(stage, step))))
            plan = trainer.stage.validate
            logs = last or step % settings.log_every == 0
            if logs:
                _log(session, stage, trainer, clock)
            validates = plan is not None and plan.every > 0 and (last or step % plan.every == 0)
            stops = (ranks.count == 1 or logs) and ranks.any(session.stopping(), session.model.device)
            saves = stops or (settings.checkpoint_every > 0 and step % settings.checkpoint_every == 0 and not last)
            if (last or validates or saves) and ranks.any(bool(flaws := session.flaws(session.groups(trainer))), session.model.device):
                raise _diverged(session, stage, trainer, flaws)
            if plan is not None and validates and validate(session, stage, plan, trainer):
                return f"stopped early at step {step}: no improvement in {plan.patience} validations"
            if saves:
                session.save(number, trainer)
            if stops:
                raise Interrupted(f"stopped in stage {stage.name} after step {step}")
            if logs or validates or saves:
                clock = session.bus.clock.read()[stage.name]
    return ""


def _next(batches: Iterator[list[Batch]], session: Session, number: int, trainer: StageTrainer) -> list[Batch]:
    """The next draw; where the first process cannot make its own, the steps so far are not lost. Other processes are in the midst of theirs then."""
    try:
        return next(batches)
    except Exception:
        whole = session.ranks.first and not session.model.sharded
        if whole and trainer.step and not session.flaws(session.groups(trainer)):
            session.save(number, trainer, alone=True)
            session.tell(f"a checkpoint of step {session.step} is written; the run goes on from it with --resume")
        raise


def _log(session: Session, stage: Stage, trainer: StageTrainer, since: float) -> None:
    means = trainer.read()
    wrong = [name for name, value in means.items() if not math.isfinite(value)]
    if wrong:
        raise _diverged(session, stage, trainer, f"{', '.join(wrong)} is no longer a finite number")
    # A window may be shorter than log_every at a stage's end or after a restart.
    steps = trainer.step % stage.training.log_every or stage.training.log_every
    # By the stage's own clock, which stands still while something is compiled.
    means["samples_per_second"] = steps * stage.training.batch / (session.bus.clock.read()[stage.name] - since)
    trainer.looked_at(means)
    session.bus.emit(Logged("train", stage.name, trainer.step, session.step, means))


def _diverged(session: Session, stage: Stage, trainer: StageTrainer, what: str) -> Diverged:
    trainer.looked_at({}, what)
    step = trainer.step  # the search for the cause goes back to earlier ones
    looked = NotFinite(stage, session, trainer)
    if not session.model.sharded:  # the first process, which alone looks for the cause, has not all weights then
        session.bus.emit(looked)
    session.ranks.wait()  # one that fails ends all, and the first process looks for the cause
    found = "; ".join(looked.findings) or "What gave the first one was not looked for"
    hint = "Where every part is sound, a lower learning rate, gradient clipping (training.clip) or fp32 usually helps"
    return Diverged(f"stage {stage.name}, step {step}: {what}. {found}. {hint}")


def validate(session: Session, stage: Stage, plan: Validation, trainer: StageTrainer) -> bool:
    """One validation and what it steers. True where the stage is to stop."""
    watched = plan.figure or "loss"
    with trainer.evaluation_weights(), session.average.used():
        metrics = {name: session.metrics[name] for name in session.recipe.validated(plan)}
        figures, _ = session.measure(plan.split, plan.items, metrics)
        if watched == "loss":
            figures["loss"] = _held_out_loss(session, plan, trainer)
    if watched not in figures:
        raise UserError(f"{stage.place}: stages.{stage.name}.validate.figure = {watched!r}: the metrics give {', '.join(sorted(figures))}")
    better = trainer.validation.update(plan, figures, watched, trainer.step)
    trainer.apply_balance()
    if better and plan.best:
        with trainer.evaluation_weights():
            session.remember_best()
    session.bus.emit(Logged("validation", stage.name, trainer.step, session.step, figures))
    session.bus.emit(Validated(stage, trainer.step, figures, better))
    return trainer.validation.stops(plan)


def _held_out_loss(session: Session, plan: Validation, trainer: StageTrainer) -> float:
    """The model's weighted loss on the validation split; unpaired data that have none are left out, so that the pairs' own items are taken.

    Items are taken together as in training: the losses that compare them depend on how many there are, and not on how many fit into a forward pass.
    """
    model, key = session.model, (session.recipe.seed.evaluation, "validation", plan.split)
    player = next(player for player in trainer.players if player.name == MODEL)
    count, total = min(plan.items, session.dataset.sizes()[plan.split]), 0.0
    others = {name: (other, other.sizes().get(plan.split, 0)) for name, other in session.unpaired.items()}
    with model.inference(), ExitStack() as afterwards:
        for loss in session.losses.values():
            afterwards.callback(loss.train, loss.training)
            loss.eval()
        for items in np.array_split(np.arange(count), math.ceil(count / trainer.stage.training.batch)):
            batches = []
            for indices in np.array_split(items, math.ceil(len(items) / session.recipe.evaluation.batch)):
                found = {
                    name: take(other, plan.split, indices % size, f"unpaired.{name}") for name, (other, size) in others.items() if size
                }
                batches.append(collate(take(session.dataset, plan.split, indices), model.tokenizers, indices, found).to(model.device))
            cycles = list(trainer.shares(batches, Ranks(), key).cycles())
            values = [term.effective * cycle.value(term.name) for cycle in cycles for term in player.terms]
            total += float(sum(value.item() for value in values)) / len(cycles) * len(items)
    return total / count
