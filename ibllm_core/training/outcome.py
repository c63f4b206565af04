"""The end of a run: the model folder, the table of figures, sample grids, the report."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..interfaces.batch import frozen
from ..model.evaluation import Evaluation, evaluate, records
from ..model.model import Pixels
from ..runs.directory import write_json
from ..runs.model_folder import save_model
from .hardware import peak_memory
from .loop import Interrupted
from .session import Session


def finish(session: Session) -> dict[str, float]:
    """Measures the run on every reported split and writes all that it leaves behind; returns the flat table."""
    directory, recipe = session.directory, session.recipe
    started = time.perf_counter()
    info = directory.info()
    record = {"provenance": info["provenance"], "attribution": info["attribution"], "versions": info["versions"]}
    save_model(directory.model, recipe, session.model, session.weights(), session.tokenizers, record)
    results: dict[str, float] = {}
    measured: dict[str, Any] = {}
    plan = recipe.evaluation

    def checkpoint() -> None:
        if session.stopping():
            raise Interrupted("stopped while measuring; the training itself is done")

    with session.averaged():
        for split in plan.splits:
            session.observer.evaluating(split)
            figures, evaluation = evaluate(
                session.model,
                session.dataset,
                session.metrics,
                split,
                items=plan.items,
                seed=recipe.seed.evaluation,
                batch=plan.batch,
                checkpoint=checkpoint,
                declared=recipe.figures(),
            )
            results |= {f"{split}/{name}": value for name, value in figures.items()}
            results[f"{split}/items"] = float(len(evaluation))
            measured[split] = records(session.metrics, evaluation)
            write_samples(session, evaluation)
    write_json(directory.results, results)
    session.write("result", "end", results)
    session.seconds["evaluation"] = session.seconds.get("evaluation", 0.0) + time.perf_counter() - started
    finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    directory.update(
        status="done",
        finished=finished,
        timings=session.timings(),
        metrics=measured,
        training_flops=_spent(session, info.get("item_flops", {})),
        memory=_memory(session),
    )
    import_module("ibllm_report").render(directory.path)
    if session.hooks.heard("ibllm_run_ended"):
        session.tell("ibllm_run_ended", figures=results)
        directory.update(timings=session.timings(), hooks=session.hooks.record())
        import_module("ibllm_report").render(directory.path)  # once more, with what the hooks took
    return results


def _memory(session: Session) -> dict[str, Any]:
    """The most that any stage held, whichever process trained it, and measuring at the end."""
    now = peak_memory(session.model.device)
    known = [peak for peak in (now["peak_bytes"], *(record.get("peak_bytes") for record in session.records)) if peak is not None]
    return now | {"peak_bytes": max(known, default=None)}


def _spent(session: Session, item_flops: Mapping[str, int | None]) -> int | None:
    """FLOPs of the steps that were done: a stage may have stopped early. None where a stage's are unknown."""
    batches = {stage.name: stage.training.batch for stage in session.recipe.running()}
    total = 0
    for record in session.records:
        flops = item_flops.get(record["name"])
        if flops is None:
            return None
        total += record["done"] * batches[record["name"]] * flops
    return total


def write_samples(session: Session, evaluation: Evaluation) -> None:
    """A split's sample grid: PNGs and a list of what is what, as far as the data give it and the model makes it."""
    folder = session.directory.samples
    folder.mkdir(exist_ok=True)
    rows = choose_samples(evaluation, session.recipe.evaluation.samples)
    draws, reads = evaluation.draws_captions, evaluation.reads_images
    texts: dict[str, Sequence[str] | None] = {
        "caption": evaluation.samples.captions,
        "language": evaluation.languages,
        "read": evaluation.read if reads else None,
        "reread": evaluation.reread if draws and reads else None,
    }
    pictures = {"real": evaluation.samples.images, "generated": evaluation.generated if draws else None}
    shown = {name: pixels for name, pixels in pictures.items() if pixels is not None}
    marks = [metric.marks(evaluation) for metric in session.metrics.values()]
    items: list[dict[str, Any]] = []
    for row in rows:
        stem = f"{evaluation.split}-{int(evaluation.indices[row]):06d}"
        for name, pixels in shown.items():
            _write_png(folder / f"{stem}-{name}.png", pixels[row])
        items.append(
            {"index": int(evaluation.indices[row])}
            | {name: None if found is None else found[row] for name, found in texts.items()}
            | {name: f"{stem}-{name}.png" if name in shown else None for name in pictures}
            | {"right": {name: bool(values[row]) for found in marks for name, values in found.items()}}
        )
    write_json(folder / f"{evaluation.split}.json", {"split": evaluation.split, "items": items})
    if shown and rows:
        sheet = np.concatenate([np.concatenate([pixels[row] for pixels in shown.values()]) for row in rows], axis=1)
        for tracker in session.trackers.values():
            tracker.image(f"samples/{evaluation.split}", frozen(sheet), session.step)


def choose_samples(evaluation: Evaluation, count: int) -> list[int]:
    """The first items of the split, taken in turn from every language: chosen by place, never by how they came out."""
    queues: dict[str, list[int]] = {}
    for row, language in enumerate(evaluation.languages):
        queues.setdefault(language, []).append(row)
    chosen: list[int] = []
    while len(chosen) < min(count, len(evaluation)):
        for queue in queues.values():
            if queue and len(chosen) < count:
                chosen.append(queue.pop(0))
    return chosen


def _write_png(path: Path, pixels: Pixels) -> None:
    Image.fromarray(pixels if pixels.shape[-1] > 1 else pixels[..., 0]).save(path)
