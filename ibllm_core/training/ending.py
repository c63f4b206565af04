"""How a run ends: with figures and all that it leaves behind, or with an error and what is written down about it."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Mapping
from typing import Any

from ..errors import UserError
from ..host.attribution import communicating, explained, traceback_of
from ..interfaces.batch import frozen
from ..model.evaluation import records
from ..recipe.schema import Recipe
from ..runs.directory import RunDirectory, write_json, write_text
from ..runs.model_folder import save_model
from .events import Measuring, RunClosed, RunEnded, Sampled
from .hardware import peak_memory
from .loop import Interrupted
from .samples import write_samples
from .session import Session

_RANKS = "error-rank-*.txt"


class PeerFailed(UserError):
    """Another process of the run is gone."""


def finish(session: Session) -> dict[str, float]:
    """Measures the run on every reported split and writes all that it leaves behind; returns the flat table."""
    directory, recipe = session.directory, session.recipe
    info = directory.info()
    with session.timed("evaluation"):
        record = {name: info[name] for name in ("provenance", "attribution", "versions")}
        save_model(directory.model, recipe, session.model, session.average.weights(), session.tokenizers, record)
        results, measured = _measure(session)
        write_json(directory.results, results)
    session.log("result", None, 0, results)
    finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    flops, memory = _flops(session, info.get("item_flops", {})), _memory(session)
    said = {"status": "done", "finished": finished, "timings": session.timings(), "metrics": measured}
    directory.update(**said, training_flops=flops, memory=memory)
    session.bus.emit(RunEnded(results))
    close(session, "done")
    return results


def _measure(session: Session) -> tuple[dict[str, float], dict[str, Any]]:
    """The flat table of all reported splits, and how each figure was measured; writes the samples."""
    plan = session.recipe.evaluation
    results: dict[str, float] = {}
    measured: dict[str, Any] = {}

    def checkpoint() -> None:
        if session.stopping():
            raise Interrupted("stopped while measuring; the training itself is done")

    with session.average.swapped_in():
        for split in plan.splits:
            session.bus.emit(Measuring(split))
            figures, evaluation = session.measure(split, plan.items, checkpoint=checkpoint)
            results |= {f"{split}/{name}": value for name, value in figures.items()}
            results[f"{split}/items"] = float(len(evaluation))
            measured[split] = records(session.metrics, evaluation)
            sheet = write_samples(session.directory.samples, evaluation, session.metrics.values(), plan.samples)
            if sheet is not None:
                session.bus.emit(Sampled(split, frozen(sheet), session.step))
    return results, measured


def _memory(session: Session) -> dict[str, Any]:
    """The most that any stage held, whichever process trained it, and measuring at the end."""
    now = peak_memory(session.model.device)
    known = [peak for peak in (now["peak_bytes"], *(record.get("peak_bytes") for record in session.records)) if peak is not None]
    return now | {"peak_bytes": max(known, default=None)}


def _flops(session: Session, item_flops: Mapping[str, int | None]) -> int | None:
    """FLOPs of the steps that were done: a stage may have stopped early. None where a stage's are unknown."""
    batches = {stage.name: stage.training.batch for stage in session.recipe.running()}
    found = [(record["done"] * batches[record["name"]], item_flops.get(record["name"])) for record in session.records]
    return None if any(flops is None for _, flops in found) else sum(items * (flops or 0) for items, flops in found)


def close(session: Session, status: str) -> None:
    """The last event: it comes when run.json has the timings and errors of all listeners; those of the last event itself follow."""
    session.directory.update(timings=session.timings(), hooks=session.bus.record())
    session.bus.emit(RunClosed(session.directory.path, status))
    session.directory.update(timings=session.timings(), hooks=session.bus.record())


def explain(error: BaseException, recipe: Recipe, directory: RunDirectory) -> BaseException:
    """The error as a user should see it: of the component that raised it, or of the other process that failed first."""
    if isinstance(error, Exception) and communicating(error):
        failed = PeerFailed(_peers(directory) or "another process of this run is gone; what it wrote says why")
        failed.__cause__ = error
        return failed
    return explained(error, recipe)


def _peers(directory: RunDirectory) -> str:
    """What the first process that left a file says."""
    for path in sorted(directory.path.glob(_RANKS)):
        with contextlib.suppress(OSError):
            return path.read_text(encoding="utf-8").partition("\n")[0]
    return ""


def record_failure(error: BaseException, session: Session) -> None:
    """Writes down what there is so far. The error that ends the run is worth more than one of writing it."""
    stopped = isinstance(error, Interrupted | KeyboardInterrupt)
    directory, ranks = session.directory, session.ranks
    with contextlib.suppress(OSError):
        if ranks.first:
            said = {"error": "", "traceback": ""}
            if not stopped:
                said = {"error": f"{type(error).__name__}: {error}", "traceback": traceback_of(error)}
            status = "interrupted" if stopped else "failed"
            directory.update(status=status, **said)
            close(session, status)
        elif not stopped and not isinstance(error, PeerFailed) and directory.path.is_dir():
            head = f"rank {ranks.rank}: {' '.join(str(error).split())}"
            write_text(directory / f"error-rank-{ranks.rank}.txt", f"{head}\n\n{traceback_of(error)}")


def forget_failures(directory: RunDirectory) -> None:
    """Removes what processes of an earlier attempt left."""
    for path in directory.path.glob(_RANKS):
        with contextlib.suppress(OSError):
            path.unlink()
