"""The loop over one stage's iterations: log, validate, checkpoint, stop."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import numpy as np

from ..errors import UserError
from ..interfaces.batch import add_unpaired, collate, take
from ..interfaces.metric import Metric
from ..model.cycle import Cycle
from ..model.evaluation import evaluate
from ..model.players import MODEL
from ..model.stage import StageTrainer
from ..recipe.schema import Stage, Validation
from . import checkpoints as checkpoints
from .divergence import first_wrong
from .feeding import Feeder
from .session import Session


class Interrupted(Exception):
    """The run was asked to stop and did, at a step boundary, with a checkpoint."""


class Diverged(UserError):
    """A loss or a gradient is no longer a number."""


def train_stage(session: Session, stage: Stage, number: int, trainer: StageTrainer) -> str:
    """Trains a stage from the trainer's step to its end; returns a note on how it ended, empty where it ran all its steps.

    Raises:
        Interrupted: a checkpoint is written.
        Diverged: a figure is not finite; the last checkpoint is from before.
    """
    settings, ranks = stage.training, session.ranks
    feeder = Feeder(
        session.dataset,
        session.model.tokenizers,
        batch=settings.batch,
        key=(session.recipe.seed.data, stage.name),
        start=trainer.step,
        micro=settings.accumulate,
        rank=ranks.rank,
        ranks=ranks.count,
        unpaired=session.unpaired,
    )
    started = clock = time.perf_counter()
    before = session.seconds.get(stage.name, 0.0)
    note = ""
    steps_heard, spent = session.hooks.heard("ibllm_step_ended"), session.hooks.total()
    try:
        batches = iter(feeder)
        while trainer.step < stage.steps:
            trainer.iterate(next(batches))
            session.step += 1
            step = trainer.step
            session.observer.stepped(stage, step)
            if steps_heard:
                session.tell("ibllm_step_ended", stage=stage, step=step)
            logs = step % settings.log_every == 0 or step == stage.steps
            if logs:
                _log(session, stage, trainer, clock)
                clock = time.perf_counter()
            validates = (
                stage.validate is not None and stage.validate.every > 0 and (step % stage.validate.every == 0 or step == stage.steps)
            )
            if validates and stage.validate is not None:
                if _validate(session, stage, stage.validate, trainer):
                    note = f"stopped early at step {step}: no improvement in {stage.validate.patience} validations"
                    break
                clock = time.perf_counter()
            session.seconds[stage.name] = before + time.perf_counter() - started - (session.hooks.total() - spent)
            stops = (ranks.count == 1 or logs) and ranks.any(session.stopping(), session.model.device)
            passing = settings.checkpoint_every > 0 and step % settings.checkpoint_every == 0 and step < stage.steps
            if passing or stops:
                save(session, number, trainer)
                clock = time.perf_counter()
            if stops:
                raise Interrupted(f"stopped in stage {stage.name} after step {step}")
    finally:
        feeder.close()
        session.seconds[stage.name] = before + time.perf_counter() - started - (session.hooks.total() - spent)
    return note


def save(session: Session, number: int, trainer: StageTrainer | None, ended: bool = False) -> None:
    """Writes a checkpoint; `number` is the stage that a restart goes on in."""
    if session.ranks.first:
        state, tensors = trainer.state() if trainer is not None else ({"step": 0}, {})
        name = f"step-{session.step:07d}" + ("-end" if ended else "")
        checkpoints.save(session.directory.checkpoints / name, session.checkpoint({"stage": number, **state}, tensors))
        checkpoints.prune(session.directory.checkpoints, session.recipe.training.keep)
    session.ranks.wait()


def _log(session: Session, stage: Stage, trainer: StageTrainer, since: float) -> None:
    means = trainer.read()
    wrong = [name for name, value in means.items() if not math.isfinite(value)]
    if wrong:
        named = first_wrong(session, stage, trainer)
        hint = "a lower learning rate, gradient clipping (training.clip) or fp32 usually helps"
        raise Diverged(
            f"stage {stage.name}, step {trainer.step}: {', '.join(wrong)} is no longer a finite number. "
            + (f"{named}. If it is sound, {hint}" if named else f"Every part and loss gives numbers where training stood before; {hint}")
        )
    # A window may be shorter than log_every at a stage's end or after a restart.
    steps = trainer.step % stage.training.log_every or stage.training.log_every
    means["samples_per_second"] = steps * stage.training.batch / (time.perf_counter() - since)
    session.write("train", stage.name, means)
    session.observer.logged(stage, trainer.step, means)


def _validate(session: Session, stage: Stage, plan: Validation, trainer: StageTrainer) -> bool:
    """One validation and what it steers. True where the stage is to stop."""
    watched = plan.figure or "loss"
    with trainer.settled(), session.averaged():
        metrics = {name: session.metrics[name] for name in session.recipe.validated(plan)}
        figures = measure(session, plan.split, plan.items, metrics)
        if watched == "loss":
            figures["loss"] = _held_out_loss(session, stage, plan, trainer)
    if watched not in figures:
        raise UserError(f"{stage.place}: stages.{stage.name}.validate.figure = {watched!r}: the metrics give {', '.join(sorted(figures))}")
    better = trainer.knobs.watch(plan, figures, watched, trainer.step)
    trainer.steer()
    if better and plan.best:
        with trainer.settled():
            session.remember_best()
    session.write("validation", stage.name, figures)
    session.observer.validated(stage, trainer.step, figures, better)
    session.tell("ibllm_validation_ended", stage=stage, step=trainer.step, figures=figures, best=better)
    return trainer.knobs.stop(plan)


def measure(session: Session, split: str, items: int, metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Figures of the model as it is on one split."""
    plan, seed = session.recipe.evaluation, session.recipe.seed.evaluation
    figures, _ = evaluate(
        session.model, session.dataset, metrics, split, items=items, seed=seed, batch=plan.batch, declared=session.recipe.figures()
    )
    return figures


def _held_out_loss(session: Session, stage: Stage, plan: Validation, trainer: StageTrainer) -> float:
    """The model's weighted loss on the validation split; unpaired data that have none are left out, so that the pairs' own items are taken."""
    model, size = session.model, session.recipe.evaluation.batch
    player = next(player for player in trainer.players if player.name == MODEL)
    count = min(plan.items, session.dataset.sizes()[plan.split])
    total = 0.0
    others = {name: (other, other.sizes().get(plan.split, 0)) for name, other in session.unpaired.items()}
    with model.inference():
        for start in range(0, count, size):
            indices = np.arange(start, min(start + size, count))
            found = {name: take(other, plan.split, indices % items, f"unpaired.{name}") for name, (other, items) in others.items() if items}
            pairs = collate(take(session.dataset, plan.split, indices), model.tokenizers, indices)
            batch = add_unpaired(pairs, found, model.tokenizers).to(model.device)
            key = (session.recipe.seed.evaluation, "validation", plan.split)
            cycle = Cycle(model, batch, session.losses, key, trainer.step)
            values = [term.at(trainer.step) * cycle.value(term.name) for term in player.terms]
            total += float(sum(value.item() for value in values)) * len(indices)
    return total / count
