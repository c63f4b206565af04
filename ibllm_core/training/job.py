"""A recipe, trained: every stage in order, validated, checkpointed, measured, and what it learned written down."""

from __future__ import annotations

import datetime
import platform
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ..contracts import Report, check
from ..errors import Notice
from ..host.attribution import explained
from ..model import build
from ..model.stage import StageTrainer
from ..recipe.schema import Recipe, Stage
from ..runs.directory import MetricsFile, RunDirectory, write_text
from ..runs.provenance import provenance
from . import checkpoints as checkpoints
from .distributed import first_process, leave
from .failure import explain, forget_failures, record_failure
from .hardware import hardware, peak_memory
from .initial import start_from
from .lifecycle import Hooks, hooks_of
from .loop import Interrupted, measure, save, train_stage
from .observer import Observer
from .outcome import finish
from .session import Session, open_session

__all__ = ["Interrupted", "Job"]


class Job:
    """Runs a recipe in a run directory.

    Args:
        recipe: resolved.
        run_dir: by default ``runs/<name>``.
        observer: told how it goes.
        command: the command that started it, for the record.
    """

    def __init__(self, recipe: Recipe, run_dir: Path | None = None, observer: Observer | None = None, command: str = "") -> None:
        self.recipe, self.directory = recipe, RunDirectory(run_dir or Path("runs") / recipe.name)
        self._observer, self._command, self._stopping = observer or Observer(), command, False
        self._report: Report | None = None

    @property
    def stopping(self) -> bool:
        """True once `stop` was called."""
        return self._stopping

    def stop(self) -> None:
        """Asks the run to stop at the next step boundary; `run` then raises `Interrupted`."""
        self._stopping = True

    def run(self, resume: bool = False) -> dict[str, float]:
        """Trains, or goes on from the newest whole checkpoint; returns the flat table of figures.

        Raises:
            UserError: the recipe cannot be built, or the directory holds a run already.
            Interrupted: `stop` was called; the directory holds a checkpoint to go on from.
        """
        if not resume and self.directory.exists():
            self.directory.create(self.recipe)  # raises
        hooks = hooks_of(self.recipe) if first_process() else Hooks()
        session: Session | None = None
        try:
            hooks.call("ibllm_recipe_loaded", recipe=self.recipe)
            if not resume:
                self._report = check(self.recipe)
            session = open_session(self.recipe, self.directory, self._observer, lambda: self._stopping, resume, hooks)
            return self._run(session, resume)
        except BaseException as error:
            told = explain(error, self.recipe, self.directory)
            if not isinstance(told, Interrupted | KeyboardInterrupt):
                hooks.call("ibllm_error", recipe=self.recipe, error=told, run_directory=self.directory.path)
            if session is not None:
                record_failure(told, session)
            if told is error:
                raise
            raise told from error
        finally:
            if session is not None:
                _close(session)
            leave()

    def _run(self, session: Session, resume: bool) -> dict[str, float]:
        start, state = (self._resume(session)) if resume else (0, None)
        if not resume:
            self._begin(session)
        if session.ranks.first:
            self._record_flops()
        _open_logs(session)
        session.tell("ibllm_model_built")
        stages = self.recipe.running()
        for number, stage in enumerate(stages[start:], start):
            self._stage(session, stage, number, len(stages), state if number == start else None)
        if session.ranks.first:
            self.directory.update(timings=session.timings())
        results = finish(session) if session.ranks.first else {}
        session.ranks.wait()
        return results

    def _begin(self, session: Session) -> None:
        """The directory, its record, and where weights start from."""
        if session.ranks.first:
            self.directory.create(self.recipe)
            for name, tokenizer in session.tokenizers.items():
                write_text(self.directory.checkpoints / f"tokenizer-{name}.json", tokenizer.state())
            self.directory.update(**self._record(session))
        session.ranks.wait()
        self._first_weights(session)

    def _first_weights(self, session: Session) -> None:
        """Where weights start from, if not from their own seed."""
        if self.recipe.init is not None:
            start_from(session.model, self.recipe.init)
        for part, component in self.recipe.parts.items():
            if component.init is not None:
                start_from(session.model, component.init, (part,))
        _restart_average(session)

    def _record_flops(self) -> None:
        """What the training costs if all its steps are done."""
        if "training_flops" not in self.directory.info():
            report = self._report or check(self.recipe)
            flops = {row.stage: row.flops for row in report.stages}
            self.directory.update(training_flops=report.training_flops(self.recipe), item_flops=flops)

    def _resume(self, session: Session) -> tuple[int, checkpoints.Checkpoint | None]:
        """The stage to go on in, and its checkpoint; from the start where the run did not get to its first one."""
        found = checkpoints.newest(self.directory.checkpoints)
        if session.ranks.first:
            session.hooks.take_over(self.directory.info().get("hooks", {}))
            forget_failures(self.directory)
        if found is None:
            self._first_weights(session)
            if session.ranks.first:
                self.directory.update(**self._record(session))
            return 0, None
        checkpoint = found[1]
        session.restore(checkpoint)
        if session.ranks.first:
            # A run that starts where another one left it has no record of its own yet.
            missing = {} if "provenance" in self.directory.info() else self._record(session) | {"stages": session.records}
            self.directory.update(**missing | {"status": "running", "error": "", "traceback": ""})
        return int(checkpoint.state["stage"]), checkpoint if checkpoint.state["step"] > 0 else None

    def _stage(self, session: Session, stage: Stage, number: int, count: int, checkpoint: checkpoints.Checkpoint | None) -> None:
        if checkpoint is None and stage.init is not None:
            start_from(session.model, stage.init)
            _restart_average(session)
        trainer = StageTrainer(self.recipe, stage, session.model, session.losses, session.average, session.ranks)
        if checkpoint is not None:
            trainer.restore(checkpoint.state, checkpoint.tensors)
        session.observer.stage_started(stage, number + 1, count, trainer.step)
        session.tell("ibllm_stage_started", stage=stage, step=trainer.step)
        note = train_stage(session, stage, number, trainer)
        trainer.settle()
        if session.best and trainer.knobs.best_step != trainer.step:
            session.return_to_best()
            note = note or f"went back to the best weights, step {trainer.knobs.best_step}"
        session.best = {}
        figures = self._measure(session, stage, last=number == count - 1)
        session.records.append(
            {
                "name": stage.name,
                "steps": stage.steps,
                "done": trainer.step,
                "seconds": session.seconds[stage.name],
                "best_step": trainer.knobs.best_step,
                "figures": figures,
                "note": note,
                "peak_bytes": peak_memory(session.model.device)["peak_bytes"],
            }
        )
        if session.ranks.first:
            self.directory.update(stages=session.records, hooks=session.hooks.record())
        save(session, number + 1, None, ended=True)
        session.observer.stage_ended(stage, trainer.step, session.seconds[stage.name], figures, note)
        session.tell("ibllm_stage_ended", stage=stage, step=trainer.step, figures=figures)

    def _measure(self, session: Session, stage: Stage, last: bool) -> dict[str, float]:
        """Figures on the reported splits after a stage. The last stage's are the run's results, measured on more items."""
        plan = self.recipe.evaluation
        if last or plan.after_stage == 0:
            return {}
        figures: dict[str, float] = {}
        started = time.perf_counter()
        session.observer.evaluating(f"after stage {stage.name}")
        with session.averaged():
            for split in plan.splits:
                found = measure(session, split, plan.after_stage, session.metrics)
                figures |= {f"{split}/{name}": value for name, value in found.items()}
        session.seconds["evaluation"] = session.seconds.get("evaluation", 0.0) + time.perf_counter() - started
        session.write("stage", stage.name, figures)
        return figures

    def _record(self, session: Session) -> dict[str, Any]:
        recipe = self.recipe
        return {
            "name": recipe.name,
            "status": "running",
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": self._command,
            "seed": {"init": recipe.seed.init, "data": recipe.seed.data, "evaluation": recipe.seed.evaluation},
            "versions": {"ibllm": version("ibllm"), "python": platform.python_version(), "torch": torch.__version__},
            "hardware": hardware(session.model.device),
            "provenance": provenance(recipe),
            "hooks": session.hooks.record(),
            "parts": [
                {"part": name, "component": str(recipe.parts[name]), "parameters": sum(p.numel() for p in part.parameters())}
                for name, part in session.model.parts.items()
            ],
            "attribution": session.attribution(),
            "stages": [],
            "timings": {},
        }


def _restart_average(session: Session) -> None:
    for name, p in session.model.named_parameters():
        if name in session.average:
            session.average[name].copy_(p.detach())


def _open_logs(session: Session) -> None:
    if session.ranks.first:
        session.log = MetricsFile(session.directory / "metrics.jsonl", session.step)
        trackers = build.build_trackers(session.recipe)
        for tracker in trackers.values():
            tracker.open(session.directory.path, session.step)
        session.trackers = trackers


def _close(session: Session) -> None:
    if session.log is not None:
        session.log.close()
    for tracker in session.trackers.values():
        try:
            tracker.close()
        except (Exception, SystemExit) as error:  # what the run has to say matters more, good or bad
            warnings.warn(Notice(str(explained(error, session.recipe))), stacklevel=2)
