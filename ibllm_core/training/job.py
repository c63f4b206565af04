"""A recipe, trained: every stage in order, validated, checkpointed, measured, and what it learned written down."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ..contracts import Report, check
from ..recipe.schema import Recipe, Stage
from ..runs.directory import RunDirectory, write_text
from ..runs.glossary import Glossary
from ..runs.provenance import provenance
from . import checkpoints, listeners
from .distributed import first_process, leave
from .ending import explain, finish, forget_failures, record_failure
from .events import Bus, Failed, Listener, Measuring, ModelBuilt, RunStarted, StageEnded, StageStarted
from .hardware import hardware, peak_memory
from .initial import start_from
from .loop import Interrupted, save, train_stage
from .session import Session, open_session

__all__ = ["Interrupted", "Job"]


class Job:
    """Runs a recipe in a run directory.

    Args:
        recipe: resolved.
        run_dir: by default ``runs/<name>``.
        listeners: look on, beside those that every run has (`ibllm_core.training.events`).
        command: the command that started it, for the record.

    Attributes:
        blocked: listeners that every run has, but for this one, in which they are blocked.
    """

    def __init__(self, recipe: Recipe, run_dir: Path | None = None, listeners: Iterable[Listener] = (), command: str = "") -> None:
        self.recipe, self.directory = recipe, RunDirectory(run_dir or Path("runs") / recipe.name)
        self.blocked: list[str] = []
        self._listeners, self._command, self._stopping = tuple(listeners), command, False
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
        if not resume:
            self.directory.require_new()
        bus, session, started = Bus(), None, False
        hooks = listeners.plugin_hooks(self.recipe, self.directory.path) if first_process() else []
        if first_process():
            standing, self.blocked = listeners.standing(self.recipe)
            bus.add(*self._listeners, *hooks, *standing)
        try:
            bus.emit(RunStarted(self.recipe, self.directory.path))
            if not resume:
                self._report = check(self.recipe)
            session = open_session(self.recipe, self.directory, bus, lambda: self._stopping, resume)
            start, state = self._start(session, resume)
            if session.ranks.first:
                bus.add(listeners.MetricsFile(self.directory / "metrics.jsonl", session.step), first=True)
                started = True
                bus.add(*listeners.trackers(self.recipe, self.directory.path, session.step), first=True)
            for hook in hooks:
                hook.model = session.model
            bus.emit(ModelBuilt(session.step))
            stages = self.recipe.running()
            for number, stage in enumerate(stages[start:], start):
                self._stage(session, stage, number, len(stages), state if number == start else None)
            results = finish(session) if session.ranks.first else {}
            session.ranks.wait()
            return results
        except BaseException as error:
            shown = explain(error, self.recipe, self.directory)
            if not isinstance(shown, Interrupted | KeyboardInterrupt):
                bus.emit(Failed(shown))
            if session is not None and (started or not session.ranks.first):
                record_failure(shown, session)
            if shown is error:
                raise
            raise shown from error
        finally:
            leave()

    def _start(self, session: Session, resume: bool) -> tuple[int, checkpoints.Checkpoint | None]:
        """The directory, its record and the weights to start from; gives the stage to go on in, and its checkpoint if it has begun."""
        found = checkpoints.newest(self.directory.checkpoints) if resume else None
        if found is not None:
            session.restore(found[1])
        if session.ranks.first:
            if resume:
                session.bus.take_over(self.directory.info().get("hooks", {}))
                forget_failures(self.directory)
            else:
                self.directory.create(self.recipe)
                for name, tokenizer in session.tokenizers.items():
                    write_text(self.directory.checkpoints / f"tokenizer-{name}.json", tokenizer.state())
            # A run that starts where another one left it has no record of its own yet.
            known = found is not None and "provenance" in self.directory.info()
            record = {"status": "running", **Glossary.of(self.recipe).record()} if known else self._record(session)
            self.directory.update(**record | ({"error": "", "traceback": ""} if resume else {}))
        session.ranks.wait()
        if found is not None:
            state = found[1].state
            return int(state["stage"]), found[1] if state["step"] > 0 else None
        if self.recipe.init is not None:
            start_from(session.model, self.recipe.init)
        for name, part in self.recipe.model.parts.items():
            if part.init is not None:
                start_from(session.model, part.init, (name,))
        session.average.restart()
        return 0, None

    def _stage(self, session: Session, stage: Stage, number: int, count: int, checkpoint: checkpoints.Checkpoint | None) -> None:
        if checkpoint is None and stage.init is not None:
            start_from(session.model, stage.init)
            session.average.restart()
        trainer = session.trainer(stage)
        if checkpoint is not None:
            trainer.restore(checkpoint.state, checkpoint.tensors)
        session.bus.emit(StageStarted(stage, number + 1, count, trainer.step))
        note = train_stage(session, stage, number, trainer)
        trainer.use_evaluation_weights()
        best_step = trainer.validation.best_step
        if session.best and best_step != trainer.step:
            session.return_to_best()
            note = note or f"went back to the best weights, step {best_step}"
        session.best = {}
        figures = {} if number == count - 1 else self._measure(session, stage, trainer.step)
        seconds = session.seconds[stage.name]
        session.records.append(
            {
                "name": stage.name,
                "steps": stage.steps,
                "done": trainer.step,
                "seconds": seconds,
                "best_step": best_step,
                "figures": figures,
                "note": note,
                "peak_bytes": peak_memory(session.model.device)["peak_bytes"],
            }
        )
        if session.ranks.first:
            self.directory.update(stages=session.records, hooks=session.bus.record())
        save(session, number + 1)
        session.bus.emit(StageEnded(stage, trainer.step, seconds, figures, note))

    def _measure(self, session: Session, stage: Stage, step: int) -> dict[str, float]:
        """Figures on the reported splits after a stage. The last stage's are the run's results, measured on more items."""
        plan = self.recipe.evaluation
        if plan.after_stage == 0:
            return {}
        session.bus.emit(Measuring(f"after stage {stage.name}"))
        with session.timed("evaluation"), session.average.swapped_in():
            measured = {split: session.measure(split, plan.after_stage)[0] for split in plan.splits}
        figures = {f"{split}/{name}": value for split, found in measured.items() for name, value in found.items()}
        session.log("stage", stage, step, figures)
        return figures

    def _record(self, session: Session) -> dict[str, Any]:
        recipe, report = self.recipe, self._report or check(self.recipe)
        credits = [dataset.attribution() for dataset in (session.dataset, *session.unpaired.values())]
        return {
            "name": recipe.name,
            "status": "running",
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": self._command,
            "seed": {"init": recipe.seed.init, "data": recipe.seed.data, "evaluation": recipe.seed.evaluation},
            "versions": {"ibllm": version("ibllm"), "python": platform.python_version(), "torch": torch.__version__},
            "hardware": hardware(session.model.device),
            "provenance": provenance(recipe),
            **Glossary.of(recipe).record(),
            "hooks": session.bus.record(),
            "parts": [
                {"part": name, "component": str(recipe.parts[name]), "parameters": sum(p.numel() for p in part.parameters())}
                for name, part in session.model.parts.items()
            ],
            "attribution": "\n\n".join(dict.fromkeys(credit for credit in credits if credit)) or None,
            "stages": session.records,
            "timings": {},
            # What the training costs if all its steps are done.
            "training_flops": report.training_flops(recipe),
            "item_flops": {row.stage: row.flops for row in report.stages},
        }
