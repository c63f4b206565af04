"""What follows the training: figures, samples and panels; and the rehearsal, in which it is played before the training."""

from __future__ import annotations

import copy
import random
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import zip_longest
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from PIL import Image

from ..errors import Notice, UserError
from ..host.attribution import WrongAnswer, explained
from ..interfaces.batch import frozen
from ..interfaces.loss import Loss
from ..interfaces.metric import Metric
from ..interfaces.panel import Panel, Panels
from ..model import build
from ..model.evaluation import Evaluation, records
from ..model.model import Pixels
from ..recipe.schema import Stage
from ..runs.directory import RunDirectory, write_json
from ..runs.glossary import Glossary
from .events import Bus, Logged, Measuring, Rehearsed, Sampled
from .loop import Interrupted, validate
from .session import Session

#: Items of each split in a rehearsal.
FEW = 2


def measure_stage(session: Session, stage: Stage, step: int) -> dict[str, float]:
    """Figures on the reported splits after a stage that is not the last; empty where the recipe wants none."""
    plan = session.recipe.evaluation
    if plan.after_stage == 0:
        return {}
    session.bus.emit(Measuring(f"after stage {stage.name}"))
    with session.bus.clock.timed("evaluation"), session.average.used():
        measured = {split: session.measure(split, plan.after_stage)[0] for split in plan.splits}
    figures = {f"{split}/{name}": value for split, found in measured.items() for name, value in found.items()}
    session.bus.emit(Logged("stage", stage.name, step, session.step, figures))
    return figures


def measure(session: Session) -> tuple[dict[str, float], dict[str, Any], Panels]:
    """The flat table of all reported splits, how each figure was measured, and the metrics' panels; writes the samples."""
    plan = session.recipe.evaluation
    results: dict[str, float] = {}
    measured: dict[str, Any] = {}
    panels = Panels()

    def checkpoint() -> None:
        if session.stopping():
            raise Interrupted("stopped while measuring; the training itself is done")

    with session.average.used():
        for split in plan.splits:
            session.bus.emit(Measuring(split))
            figures, evaluation = session.measure(split, plan.items, checkpoint=checkpoint)
            results |= {f"{split}/{name}": value for name, value in figures.items()} | {f"{split}/items": float(len(evaluation))}
            measured[split] = records(session.metrics, evaluation)
            sheet = write_samples(session.directory.samples, evaluation, session.metrics, plan.samples)
            if sheet is not None:
                session.bus.emit(Sampled(split, frozen(sheet), session.step))
            for name, metric in session.metrics.items():
                for panel in metric.panels(evaluation):
                    if not isinstance(panel, Panel):
                        raise WrongAnswer(f"metrics.{name}", f"panels gave a {type(panel).__name__}: expected a Panel")
                    panels.append(attrs.evolve(panel, source=f"{name}, {split}"))
    return results, measured, panels


def write_samples(folder: Path, evaluation: Evaluation, metrics: Mapping[str, Metric], count: int) -> Pixels | None:
    """Writes `count` samples, as far as the data give them and the model makes them: PNGs and a list of what is what, with the metrics' marks.

    Gives a sheet of all images (h w c), None without any.
    """
    folder.mkdir(exist_ok=True)
    rows = choose_samples(evaluation, count)
    given, parts = evaluation.samples, set(evaluation.model.parts)
    draws = given.captions is not None and {"text_encoder", "image_decoder"} <= parts
    reads = given.images is not None and {"image_encoder", "text_decoder"} <= parts
    texts: dict[str, Sequence[str] | None] = {
        "caption": given.captions,
        "language": evaluation.languages,
        "read": evaluation.read if reads else None,
        "reread": evaluation.reread if draws and reads else None,
    }
    pictures = {"real": given.images, "generated": evaluation.generated if draws else None}
    shown = {name: pixels for name, pixels in pictures.items() if pixels is not None}
    marks = {f"metrics.{name}": metric.marks(evaluation) for name, metric in metrics.items()}
    for key, mark, shape in ((key, mark, np.shape(values)) for key, found in marks.items() for mark, values in found.items()):
        if shape != (len(evaluation),):
            raise WrongAnswer(key, f"marks gave {mark} of shape {shape}: expected ({len(evaluation)},)")
    items: list[dict[str, Any]] = []
    for row in rows:
        index = int(evaluation.indices[row])
        files = {name: f"{evaluation.split}-{index:06d}-{name}.png" if name in shown else None for name in pictures}
        for name, pixels in shown.items():
            Image.fromarray(pixels[row] if pixels.shape[-1] > 1 else pixels[row, ..., 0]).save(folder / str(files[name]))
        right = {name: bool(values[row]) for found in marks.values() for name, values in found.items()}
        read = {name: None if found is None else found[row] for name, found in texts.items()}
        items.append({"index": index} | read | files | {"right": right})
    write_json(folder / f"{evaluation.split}.json", {"split": evaluation.split, "items": items})
    if not (shown and rows):
        return None
    return np.concatenate([np.concatenate([pixels[row] for pixels in shown.values()]) for row in rows], axis=1)


def choose_samples(evaluation: Evaluation, count: int) -> list[int]:
    """The first items of the split, taken in turn from every language: chosen by place, never by how they came out."""
    queues: dict[str, list[int]] = {}
    for row, language in enumerate(evaluation.languages):
        queues.setdefault(language, []).append(row)
    return [row for turn in zip_longest(*queues.values()) for row in turn if row is not None][:count]


def rehearse(session: Session) -> None:
    """Plays every validation, measures every reported split, writes samples and has them reported, on a few items and with the weights as they are.

    What fails on a few is tried on as many as the run will measure. Nothing is left of it: metrics, optimizers and files are its own, global
    generators and compiled passes are not touched, and weights do not change.

    Raises:
        Exception: what the run would have raised after its training.
    """
    session.bus.emit(Measuring(f"{FEW} items a split, as a rehearsal"))
    with session.bus.clock.timed("rehearsal"), _untouched(session):
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
        played.metrics, played.strict = build.build_metrics(recipe), False
        played.directory.create(recipe)
        for stage in recipe.running():
            if stage.validate is not None and stage.validate.every > 0:
                watched = attrs.evolve(stage.validate, items=min(stage.validate.items, most), best=False)
                validate(played, stage, watched, played.trainer(stage))
        results, measured, panels = measure(played)
        write_json(played.directory.results, results)
        played.directory.update(name=recipe.name, status="running", metrics=measured, **Glossary.of(recipe).record())
        session.bus.emit(Rehearsed(played.directory.path, panels))


@contextmanager
def _untouched(session: Session) -> Iterator[None]:
    """Afterwards the global generators, λ's balance and what takes gradients are as they were."""
    python, numpy, device = random.getstate(), np.random.get_state(), session.model.device
    losses = [(loss, loss.balance) for loss in session.losses.values() if isinstance(loss, Loss)]
    trained = [(p, p.requires_grad) for module in (session.model, *session.losses.values()) for p in module.parameters()]
    # Passes are compiled for what the run plays.
    eager = torch.compiler.set_stance("force_eager") if session.recipe.compute.compile else nullcontext()
    with eager, torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    random.setstate(python)
    np.random.set_state(numpy)
    for parameter, takes in trained:
        parameter.requires_grad_(takes)
    for loss, balance in losses:
        loss.balance = balance
