"""A split's sample grid: PNGs, a list of what is what, and a sheet for trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..host.attribution import WrongAnswer
from ..interfaces.metric import Metric
from ..model.evaluation import Evaluation
from ..model.model import Pixels
from ..runs.directory import write_json


def write_samples(folder: Path, evaluation: Evaluation, metrics: Mapping[str, Metric], count: int) -> Pixels | None:
    """Writes `count` samples, as far as the data give them and the model makes them; gives a sheet of all images (h w c), None without any."""
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
    marks = [_marks(name, metric, evaluation) for name, metric in metrics.items()]
    items: list[dict[str, Any]] = []
    for row in rows:
        index = int(evaluation.indices[row])
        files = {name: f"{evaluation.split}-{index:06d}-{name}.png" if name in shown else None for name in pictures}
        for name, pixels in shown.items():
            Image.fromarray(pixels[row] if pixels.shape[-1] > 1 else pixels[row, ..., 0]).save(folder / str(files[name]))
        right = {name: bool(values[row]) for found in marks for name, values in found.items()}
        read = {name: None if found is None else found[row] for name, found in texts.items()}
        items.append({"index": index} | read | files | {"right": right})
    write_json(folder / f"{evaluation.split}.json", {"split": evaluation.split, "items": items})
    if not (shown and rows):
        return None
    return np.concatenate([np.concatenate([pixels[row] for pixels in shown.values()]) for row in rows], axis=1)


def _marks(name: str, metric: Metric, evaluation: Evaluation) -> Mapping[str, npt.NDArray[np.bool_]]:
    """Raises `WrongAnswer` where they are not one for each item."""
    found = metric.marks(evaluation)
    if wrong := [mark for mark, values in found.items() if np.shape(values) != (len(evaluation),)]:
        raise WrongAnswer(f"metrics.{name}", f"marks gave {wrong[0]} of shape {np.shape(found[wrong[0]])}: expected ({len(evaluation)},)")
    return found


def choose_samples(evaluation: Evaluation, count: int) -> list[int]:
    """The first items of the split, taken in turn from every language: chosen by place, never by how they came out."""
    queues: dict[str, list[int]] = {}
    for row, language in enumerate(evaluation.languages):
        queues.setdefault(language, []).append(row)
    return [row for turn in zip_longest(*queues.values()) for row in turn if row is not None][:count]
