"""A recipe, trained: every stage in order, validated, checkpointed, measured, and what it learned written down."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from traceback import format_exception
from typing import Any

import attrs
import torch

from ..errors import UserError
from ..host.attribution import communicating, explained
from ..model.compute import arithmetic, peak_memory
from ..recipe.locate import dotted
from ..recipe.schema import Recipe
from ..runs.directory import RunDirectory, remove, write_json, write_text
from ..runs.model_folder import save_model
from ..runs.provenance import provenance
from . import checkpoints, listeners
from .checkpoints import Checkpoint
from .distributed import first_process, launchers, leave, started_again, who_is_gone
from .events import (
    Bus,
    Failed,
    Listener,
    Logged,
    ModelBuilt,
    Prepared,
    RunClosed,
    RunEnded,
    RunStarted,
    StageEnded,
    StageStarted,
    TrainerBuilt,
)
from .loop import GoBack, Interrupted, train_stage
from .measuring import measure, measure_stage
from .session import Session

__all__ = ["Interrupted", "Job"]

#: What processes beside the first leave when they fail.
_RANKS = "error-rank-*.txt"
#: What the end of a run takes from its record, which one that starts where another left it does not have yet.
_RECORD = {"provenance", "attribution", "versions"}


class PeerFailed(UserError):
    """Another process of the run is gone."""


class Job:
    """Runs a recipe in a run directory.

    Args:
        recipe: resolved.
        run_dir: by default ``runs/<name>``.
        listeners: look on, beside those that every run has (`ibllm_core.training.events`).
        command: the command that started it, for the record.

    Attributes:
        blocked: listeners that every run has, but for this one, in which they are blocked.
        closing: what listeners have to say in the end (`RunClosed`).
        stopping: True once `stop` was called.
    """

    def __init__(self, recipe: Recipe, run_dir: Path | None = None, listeners: Iterable[Listener] = (), command: str = "") -> None:
        self.recipe, self.directory = recipe, RunDirectory(run_dir or Path("runs") / recipe.name)
        self.blocked: list[str] = []
        self.closing: list[object] = []
        self.stopping = self._made = False
        self._listeners, self._command, self._held = tuple(listeners), command, contextlib.ExitStack()

    def stop(self) -> None:
        """Asks the run to stop at the next step boundary; `run` then raises `Interrupted`."""
        self.stopping = True

    def run(self, resume: bool = False) -> dict[str, float]:
        """Trains, or goes on from the newest checkpoint that is whole; returns the flat table of figures.

        Raises:
            UserError: the recipe cannot be built, the directory is taken or holds nothing to go on from, or a change would change the training.
            Interrupted: `stop` was called; the directory holds a checkpoint to go on from.
        """
        info = {} if resume else self.directory.info()
        again = info.get("status") != "done" and started_again(info.get("launched", ()))
        resume = resume or again
        if not resume:
            self.directory.require_new()
        session, started = None, False
        bus, hooks = self._bus()
        try:
            if resume and first_process():
                self._held.enter_context(self.directory.held())
            self._held.enter_context(arithmetic(self.recipe.compute.precision == "tf32"))
            recorded = resume and bool(checkpoints.all_in(self.directory.checkpoints)) and self.directory.info().keys() >= _RECORD
            bus.emit(begun := RunStarted(self.recipe, self.directory.path, recorded))
            session = Session(self.recipe, self.directory, bus, lambda: self.stopping, resume)
            if again:
                session.tell("torchrun has started the processes again: the run goes on from its newest checkpoint")
            found = session.go_on() if resume else None
            bus.emit(Prepared(session))
            self._begin(session, resume, found, None if recorded else begun.record)
            if session.ranks.first:
                ended = [record["name"] for record in session.records]
                bus.add(listeners.MetricsFile(self.directory / "metrics.jsonl", session.step, ended), first=True)
                started = True
                bus.add(*listeners.trackers(self.recipe, self.directory.path, session.step), first=True)
            for hook in hooks:
                hook.model = session.model
            bus.emit(ModelBuilt(session.step))
            for number in range(found.state["stage"] if found is not None else 0, len(self.recipe.running())):
                self._stage(session, number, found)
                found = None
            return self._finish(session)
        except BaseException as error:
            shown = self._explained(error)
            if not isinstance(shown, Interrupted | KeyboardInterrupt):
                bus.emit(Failed(shown))
            if session is not None and (started or not session.ranks.first):
                self._fail(session, shown)
            elif self._made:
                self.directory.withdraw()
            if shown is error:
                raise
            raise shown from error
        finally:
            leave()
            self._held.close()

    def _bus(self) -> tuple[Bus, list[listeners.PluginHooks]]:
        """The bus with all who listen to this process, and those among them that stand for plugins' hooks."""
        bus, first = Bus(), first_process()
        hooks = listeners.plugin_hooks(self.recipe, self.directory.path) if first else []
        standing, self.blocked = listeners.standing(self.recipe, first)
        bus.add(*(self._listeners if first else ()), *hooks, *standing)
        return bus, hooks

    def _begin(self, session: Session, resume: bool, found: Checkpoint | None, new: dict[str, Any] | None) -> None:
        """The weights to start from, the run directory, and its record: a `new` one with what listeners say of the run, or (None) the one that is there."""
        to_come = self.recipe.running()[0 if found is None else found.state["stage"] + (found.state["step"] > 0) :]
        for one in self.recipe.dependencies if resume else ():
            if one.path[-2:] == ("init", "run") and (lacks := one.lacks()):
                if found is None if one.path[0] != "stages" else any(one.path[1] == stage.name for stage in to_come):
                    raise UserError(f"{dotted(one.path)}: {lacks[0]}, and weights are still to be taken from it: put it back", one.place)
                session.tell(f"{dotted(one.path)}: {lacks[0]}; the run goes on without it")
        if found is None:
            for init, parts in [(self.recipe.init, dict[str, str]()), *self.recipe.model.starts()]:
                session.start_from(init, parts)
        if session.ranks.first:
            if resume:
                session.bus.take_over(self.directory.info().get("hooks", {}))
            else:
                self._held.enter_context(self.directory.held())
                self.directory.create(self.recipe)
                self._made = True
            for path in (*self.directory.path.glob(_RANKS), *self.directory.path.rglob(".*.partial")):
                remove(path)
            self.directory.checkpoints.mkdir(exist_ok=True)
            for name, tokenizer in session.tokenizers.items() if found is None else ():
                write_text(self.directory.checkpoints / f"tokenizer-{name}.json", tokenizer.state())
            record = {} if new is None else self._record(session) | new
            record |= {"launched": launchers(), "status": "running", "stages": session.records, "notices": session.notices}
            self.directory.update(**record, **({"error": "", "traceback": ""} if resume else {}))
        session.ranks.wait()

    def _stage(self, session: Session, number: int, found: Checkpoint | None) -> None:
        """Trains a stage, from its beginning or from where `found` left it, and measures it, unless it is the last: the run's results are its figures."""
        stages = self.recipe.running()
        stage, begun = stages[number], found is not None and found.state["step"] > 0
        if not begun:
            session.start_from(stage.init)
        note: str | None = None
        while note is None:
            trainer = session.trainer(stage)
            if found is not None and found.state["step"] > 0:
                trainer.restore(found.state, found.tensors)
            session.bus.emit(TrainerBuilt(session, trainer))
            session.bus.emit(StageStarted(stage, number + 1, len(stages), trainer.step))
            try:
                note = train_stage(session, stage, number, trainer)
            except GoBack as back:
                found = back.args[0]
        trainer.use_evaluation_weights()
        best_step = trainer.validation.best_step
        if session.best and best_step != trainer.step:
            session.return_to_best()
            note = note or f"went back to the best weights, step {best_step}"
        session.best = {}
        figures = measure_stage(session, stage, trainer.step) if number < len(stages) - 1 else {}
        seconds = session.bus.clock.read()[stage.name]
        record = {"name": stage.name, "steps": stage.steps, "done": trainer.step, "seconds": seconds, "best_step": best_step}
        record |= trainer.replays.described() if trainer.replays is not None else {}
        session.records.append({**record, "figures": figures, "note": note, "peak_bytes": peak_memory(session.model.device)[0]})
        session.save(number + 1)
        if session.ranks.first:
            self.directory.update(stages=session.records, hooks=session.bus.record())
        session.bus.emit(StageEnded(stage, trainer.step, seconds, figures, note))

    def _finish(self, session: Session) -> dict[str, float]:
        """Measures the run on every reported split and writes all that it leaves behind; returns the flat table, which the first process has."""
        session.gather()
        if not session.ranks.first:
            session.ranks.wait()
            return {}
        info, clock = self.directory.info(), session.bus.clock
        with clock.timed("evaluation"):
            record = {name: info[name] for name in (*sorted(_RECORD), "sources") if name in info}
            with session.average.used():
                save_model(self.directory.model, self.recipe, session.model, session.shared()["weights"], session.tokenizers, record)
            results, measured, panels = measure(session)
            write_json(self.directory.results, results)
        session.bus.emit(Logged("result", "end", 0, session.step, results))
        # The most that any stage held, whichever process trained it, and measuring at the end.
        now, of = peak_memory(session.model.device)
        peaks = [peak for peak in (now, *(record.get("peak_bytes") for record in session.records)) if peak is not None]
        memory = {"peak_bytes": max(peaks, default=None), "of": of}
        self.directory.update(status="done", finished=_now(), timings=clock.read(), metrics=measured, memory=memory)
        session.bus.emit(RunEnded(results, panels))
        self._close(session, "done")
        session.ranks.wait()
        return results

    def _explained(self, error: BaseException) -> BaseException:
        """The error as a user should see it: of the component that raised it, or of the other process that failed first."""
        if not isinstance(error, Exception) or not communicating(error):
            return explained(error, self.recipe)
        said = [path.read_text(encoding="utf-8").partition("\n")[0] for path in sorted(self.directory.path.glob(_RANKS))]
        failed = PeerFailed(said[0] if said else who_is_gone())
        failed.__cause__ = error
        return failed

    def _fail(self, session: Session, error: BaseException) -> None:
        """Writes down what there is so far. The error that ends the run is worth more than one of writing it."""
        stopped, traceback, rank = isinstance(error, Interrupted | KeyboardInterrupt), "".join(format_exception(error)), session.ranks.rank
        with contextlib.suppress(OSError):
            if session.ranks.first:
                said, status = f"{type(error).__name__}: {error}", "interrupted" if stopped else "failed"
                self.directory.update(status=status, error="" if stopped else said, traceback="" if stopped else traceback)
                self._close(session, status)
            elif not stopped and not isinstance(error, PeerFailed) and self.directory.path.is_dir():
                said = f"rank {rank}: {' '.join(str(error).split())}"
                write_text(self.directory / f"error-rank-{rank}.txt", f"{said}\n\n{traceback}")

    def _close(self, session: Session, status: str) -> None:
        """The last event: it comes when run.json has the timings and errors of all listeners; those of the last event itself follow."""
        self.directory.update(timings=session.bus.clock.read(), hooks=session.bus.record(), notices=session.notices)
        session.bus.emit(RunClosed(self.directory.path, status, self.closing))
        self.directory.update(timings=session.bus.clock.read(), hooks=session.bus.record())

    def _record(self, session: Session) -> dict[str, Any]:
        recipe = self.recipe
        credits = [dataset.attribution() for dataset in (session.dataset, *session.unpaired.values())]
        return {
            "name": recipe.name,
            "created": _now(),
            "command": self._command,
            "seed": attrs.asdict(recipe.seed),
            "versions": {"ibllm": version("ibllm"), "python": platform.python_version(), "torch": torch.__version__},
            "provenance": provenance(recipe, whole=True),
            # Key → what the recipe names, as it is and as seen from the run, so that both may move together.
            "paths": {
                dotted(one.path): [str(one.where), os.path.relpath(one.where, self.directory.path)]
                for one in recipe.dependencies
                if all(isinstance(step, str) for step in one.path)
            },
            "hooks": session.bus.record(),
            "parts": [
                {"part": name, "component": str(recipe.parts[name]), "parameters": sum(p.numel() for p in part.parameters())}
                for name, part in session.model.parts.items()
            ],
            "attribution": "\n\n".join(dict.fromkeys(credit for credit in credits if credit)) or None,
            "timings": {},
        }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
