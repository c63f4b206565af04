"""What follows the training: figures, samples and panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from PIL import Image

from ..errors import writing
from ..host.attribution import WrongAnswer
from ..interfaces.batch import frozen
from ..interfaces.reporting import Metric, Panel, Panels
from ..model.evaluation import Evaluation, records
from ..model.model import Pixels
from ..recipe.schema import Stage
from ..runs.directory import write_json
from .events import Logged, Measuring, Sampled
from .loop import Interrupted
from .session import Session


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
            with writing(folder / str(files[name])):
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
