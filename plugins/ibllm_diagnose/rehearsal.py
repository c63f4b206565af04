"""What follows the training is played before its first step, on a few items, so that nothing that cannot work is met after it."""

from __future__ import annotations

import copy
import random
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import numpy as np
import torch

from ibllm.glossary import meanings
from ibllm.samples import Samples
from ibllm_core.errors import Notice, UserError
from ibllm_core.host.attribution import WrongAnswer, explained
from ibllm_core.interfaces.loss import Loss
from ibllm_core.model import build
from ibllm_core.runs.directory import RunDirectory, write_json
from ibllm_core.training.events import Bus, Listener, Measuring, Prepared, Rehearsed
from ibllm_core.training.loop import validate
from ibllm_core.training.measuring import measure
from ibllm_core.training.session import Session

#: Items of each split.
FEW = 2


class Rehearsal(Listener):
    """Ends a run before its first step where `rehearse` raises."""

    def on_prepared(self, event: Prepared) -> None:
        try:
            rehearse(event.session)
        except (Exception, SystemExit) as error:
            event.against.append(error)


def rehearse(session: Session) -> None:
    """Plays every validation, measures every reported split, writes samples and has them reported, on a few items and with the weights as they are.

    What fails on a few is tried on as many as the run will measure. Nothing is left of it: metrics, optimizers and files are its own, global
    generators and compiled passes are not touched, and weights do not change.

    Raises:
        Exception: what the run would have raised after its training.
    """
    session.bus.emit(Measuring(f"{FEW} items a split, as a rehearsal"))
    with _untouched(session):
        try:
            _rehearse(session, FEW)
        except Exception as error:
            if isinstance(error, UserError | WrongAnswer):
                raise
            session.bus.emit(Measuring(f"all items, as a rehearsal, since {FEW} were not enough"))
            _rehearse(session, session.recipe.evaluation.items)
            told = f"the rehearsal took all items, since {FEW} were not enough: {explained(error, session.recipe)}"
            warnings.warn(Notice(told), stacklevel=2)


def _rehearse(session: Session, most: int) -> None:
    """A rehearsal on at most so many items, by a session that shares nothing with the run's but data and weights."""
    with tempfile.TemporaryDirectory(prefix="ibllm-rehearsal-") as folder:
        plan, played = session.recipe.evaluation, copy.copy(session)
        few = attrs.evolve(plan, items=min(plan.items, most), samples=min(plan.samples, most))
        played.recipe = recipe = attrs.evolve(session.recipe, evaluation=few)
        played.directory, played.bus, played.stopping, played.best = RunDirectory(Path(folder) / "run"), Bus(), lambda: False, {}
        played.metrics, played.strict, played.notices = build.build_metrics(recipe), False, []
        played.bus.add(Samples())
        played.directory.create(recipe)
        for stage in recipe.running():
            if stage.validate is not None and stage.validate.every > 0:
                watched = attrs.evolve(stage.validate, items=min(stage.validate.items, most), best=False)
                validate(played, stage, watched, played.trainer(stage))
        results, measured, panels = measure(played)
        write_json(played.directory.results, results)
        played.directory.update(name=recipe.name, status="running", metrics=measured, **meanings(recipe))
        session.bus.emit(Rehearsed(played.directory.path, panels))


@contextmanager
def _untouched(session: Session) -> Iterator[None]:
    """Afterwards the global generators, λ's balance and what takes gradients are as they were."""
    python, numpy, device = random.getstate(), np.random.get_state(), session.model.device
    losses = [(loss, loss.balance) for loss in session.losses.values() if isinstance(loss, Loss)]
    trained = [(p, p.requires_grad) for module in (session.model, *session.losses.values()) for p in module.parameters()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    random.setstate(python)
    np.random.set_state(numpy)
    for parameter, takes in trained:
        parameter.requires_grad_(takes)
    for loss, balance in losses:
        loss.balance = balance
