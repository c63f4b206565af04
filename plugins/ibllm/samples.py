"""Samples of what a run has learned: pictures, texts and marks of a few items of each reported split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ibllm_core.errors import writing
from ibllm_core.host.attribution import WrongAnswer
from ibllm_core.interfaces.batch import frozen
from ibllm_core.interfaces.reporting import Metric
from ibllm_core.model.evaluation import Evaluation
from ibllm_core.model.model import Pixels
from ibllm_core.runs.directory import write_json
from ibllm_core.training.events import Listener, Measured, Sampled


class Samples(Listener):
    """Writes the samples of each split when it is measured at the end, and hands trackers a sheet of them."""

    essential = True

    def on_measured(self, event: Measured) -> None:
        session, evaluation = event.session, event.evaluation
        sheet = write_samples(session.directory.samples, evaluation, session.metrics, session.recipe.evaluation.samples)
        if sheet is not None:
            session.bus.emit(Sampled(evaluation.split, frozen(sheet), session.step))


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
