"""The figures and samples of a run; and the rehearsal, in which all that comes after the training is played before it."""

from __future__ import annotations

import copy
import random
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from ..errors import Notice, UserError
from ..host.attribution import WrongAnswer, explained
from ..interfaces.batch import frozen
from ..model import build
from ..model.evaluation import records
from ..recipe.schema import Stage
from ..runs.directory import RunDirectory, write_json
from ..runs.glossary import Glossary
from .events import Bus, Logged, Measuring, Rehearsed, Sampled
from .loop import Interrupted, validate
from .samples import write_samples
from .session import Session

#: Items of each split in a rehearsal.
FEW = 2


def measure_stage(session: Session, stage: Stage, step: int) -> dict[str, float]:
    """Figures on the reported splits after a stage that is not the last; empty where the recipe wants none."""
    plan = session.recipe.evaluation
    if plan.after_stage == 0:
        return {}
    session.bus.emit(Measuring(f"after stage {stage.name}"))
    with session.bus.clock.timed("evaluation"), session.averaged():
        measured = {split: session.measure(split, plan.after_stage)[0] for split in plan.splits}
    figures = {f"{split}/{name}": value for split, found in measured.items() for name, value in found.items()}
    session.bus.emit(Logged("stage", stage.name, step, session.step, figures))
    return figures


def measure(session: Session) -> tuple[dict[str, float], dict[str, Any]]:
    """The flat table of all reported splits, and how each figure was measured; writes the samples."""
    plan = session.recipe.evaluation
    results: dict[str, float] = {}
    measured: dict[str, Any] = {}

    def checkpoint() -> None:
        if session.stopping():
            raise Interrupted("stopped while measuring; the training itself is done")

    with session.averaged():
        for split in plan.splits:
            session.bus.emit(Measuring(split))
            figures, evaluation = session.measure(split, plan.items, checkpoint=checkpoint)
            results |= {f"{split}/{name}": value for name, value in figures.items()} | {f"{split}/items": float(len(evaluation))}
            measured[split] = records(session.metrics, evaluation)
            sheet = write_samples(session.directory.samples, evaluation, session.metrics, plan.samples)
            if sheet is not None:
                session.bus.emit(Sampled(split, frozen(sheet), session.step))
    return results, measured


def rehearse(session: Session) -> None:
    """Plays every validation, measures every reported split, writes samples and has them reported, with the weights as they are, on a few items.

    What fails on a few is tried on as many as the run will measure. Nothing is left of it: metrics, optimizers and files are its own, gradients,
    compiled passes and global generators are not touched, and weights do not change.

    Raises:
        Exception: what the run would have raised after its training.
    """
    recipe, bus = session.recipe, session.bus
    bus.emit(Measuring(f"{FEW} items a split, as a rehearsal"))
    with bus.clock.timed("rehearsal"), _untouched(session):
        try:
            _rehearse(session, FEW)
        except Exception as error:
            if isinstance(error, UserError | WrongAnswer):
                raise
            bus.emit(Measuring(f"all items, as a rehearsal, since {FEW} were not enough"))
            _rehearse(session, recipe.evaluation.items)
            warnings.warn(Notice(f"the rehearsal took all items, since {FEW} were not enough: {explained(error, recipe)}"), stacklevel=2)


def _rehearse(session: Session, most: int) -> None:
    """A rehearsal on at most so many items, by a session that shares nothing with the run's but data and weights."""
    with tempfile.TemporaryDirectory(prefix="ibllm-rehearsal-") as folder:
        played = copy.copy(session)
        plan = session.recipe.evaluation
        few = attrs.evolve(plan, items=min(plan.items, most), samples=min(plan.samples, most))
        played.recipe = recipe = attrs.evolve(session.recipe, evaluation=few)
        played.directory, played.bus, played.stopping, played.best = RunDirectory(Path(folder) / "run"), Bus(), lambda: False, {}
        played.metrics, played.strict = build.build_metrics(recipe), False
        played.directory.create(recipe)
        for stage in recipe.running():
            if stage.validate is not None and stage.validate.every > 0:
                few_of_it = attrs.evolve(stage.validate, items=min(stage.validate.items, most), best=False)
                validate(played, stage, few_of_it, played.trainer(stage))
        results, measured = measure(played)
        write_json(played.directory.results, results)
        played.directory.update(name=recipe.name, status="running", metrics=measured, **Glossary.of(recipe).record())
        session.bus.emit(Rehearsed(played.directory.path))


@contextmanager
def _untouched(session: Session) -> Iterator[None]:
    """Afterwards the global generators, what is trained and λ's balance are as they were."""
    generators, device = (random.getstate(), np.random.get_state()), session.model.device
    trained = {p: p.requires_grad for module in (session.model, *session.losses.values()) for p in module.parameters()}
    balances: Mapping[Any, float] = {loss: loss.balance for loss in session.losses.values() if hasattr(loss, "balance")}
    # Passes are compiled for what the run plays.
    eager = torch.compiler.set_stance("force_eager") if session.recipe.compute.compile else nullcontext()
    with eager, torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(generators[0])
            np.random.set_state(generators[1])
            for parameter, value in trained.items():
                parameter.requires_grad_(value)
            for loss, balance in balances.items():
                loss.balance = balance
