"""Looks at every row of figures of a stage that is watched, and warns, goes back to a good checkpoint, or stops where it sees a symptom."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ibllm_core.errors import UserError
from ibllm_core.interfaces.reporting import Panel
from ibllm_core.runs.directory import remove, write_text
from ibllm_core.training import checkpoints
from ibllm_core.training.checkpoints import Checkpoint
from ibllm_core.training.events import Listener, RunClosed, RunEnded, StageEnded, TrainerBuilt
from ibllm_core.training.loop import GoBack

from .drawings import FIGURES, Drawings
from .symptoms import SYMPTOMS, Alarm, Row, diagnose

if TYPE_CHECKING:
    from ibllm_core.model.stage import StageTrainer
    from ibllm_core.recipe.steering import Watched
    from ibllm_core.training.session import Session


class Unhealthy(UserError):
    """A symptom that the recipe stops for."""


class HealthWatch(Listener):
    """Follows stages with ``watch`` in ``[training]`` or their own table. Its record is run.json's ``watch``: `rows` looked at and `alarms`.

    Every process is called, since a model may lie in shards; the first one decides.
    """

    key, everywhere = "listeners/watch", True

    def __init__(self) -> None:
        self._session: Session | None = None
        self._went_back = False
        self._alarms: list[Alarm] = []
        self._counts: dict[str, int] = {}

    def on_trainer_built(self, event: TrainerBuilt) -> None:
        session, trainer = event.session, event.trainer
        plan = trainer.stage.training.watch
        if plan is None:
            return
        self._session, self._trainer, self._plan = session, trainer, plan
        told = session.directory.info().get("watch", {}) if session.ranks.first else {}
        self._alarms = self._alarms or [Alarm(**alarm) for alarm in told.get("alarms", [])]
        self._counts = told.get("rows", {}) | self._counts
        split = trainer.stage.validate.split if trainer.stage.validate is not None else ""
        split = split or session.recipe.data.config.validation_split()  # type: ignore[attr-defined]
        self._drawings = Drawings(session, split, plan.captions, plan.samples)
        if said := self._drawings.left_out:
            session.tell(f"watch of the stage {trainer.stage.name}: {said}")
        self._number = next(n for n, stage in enumerate(session.recipe.running()) if stage.name == trainer.stage.name)
        self._began = session.step - trainer.step
        self._rows = self._looked_at(session.step)
        earlier = session.recipe.running()[: self._number]
        self._trained = session.recipe.init is not None or any("image_decoder" in stage.parts for stage in earlier)
        self._before = set(self._diagnosis())
        if plan.action == "roll_back":
            self._ready(session, trainer, plan)
        trainer.looked_at = self._look

    def _ready(self, session: Session, trainer: StageTrainer, plan: Watched) -> None:
        """There is something to go back to; and the rate is as low as the times that the stage went back have made it."""
        if trainer.step == 0:
            back = session.ranks.firsts(self._times_back())
            trainer.validation.lr_factor = plan.factor**back
            if session.ranks.firsts(not checkpoints.all_in(session.directory.checkpoints)):
                session.save(self._number)
        elif self._went_back:
            trainer.validation.lr_factor *= plan.factor
            session.save(self._number, trainer)  # with the lower rate, so that a restart keeps it
        self._went_back = False

    def _looked_at(self, step: int) -> list[tuple[int, Row]]:
        """(step, what it says) of the stage's rows up to a step, as metrics.jsonl keeps them."""
        path = self._metrics
        lines = path.read_text(encoding="utf-8").splitlines() if self._first and path.is_file() else []
        rows = [row for row in map(json.loads, lines) if (row["kind"], row["stage"]) == ("train", self._trainer.stage.name)]
        return [(row["step"], Row.of(row)) for row in rows if row["step"] <= step]

    @property
    def _metrics(self) -> Path:
        assert self._session is not None
        return self._session.directory / "metrics.jsonl"

    @property
    def _first(self) -> bool:
        assert self._session is not None
        return self._session.ranks.first

    def _times_back(self) -> int:
        return sum(alarm.action == "rolled back" and alarm.stage == self._trainer.stage.name for alarm in self._alarms)

    def _look(self, figures: dict[str, float], trouble: str = "") -> None:
        """Adds figures to a row and follows what it shows, or what is not finite.

        Raises:
            GoBack: to an earlier checkpoint.
            Unhealthy: the run is to stop.
        """
        assert self._session is not None
        session = self._session
        with session.bus.clock.timed(self.key):
            if not trouble:
                if figures.get("grad_norm/critic"):
                    figures["watch/gradient_ratio"] = figures.get("grad_norm/model", 0.0) / figures["grad_norm/critic"]
                figures |= self._drawings.figures()
                self._rows.append((session.step, Row.of(figures)))
                self._counts[self._trainer.stage.name] = len(self._rows)
            now = {"not_finite": trouble} if trouble else self._diagnosis()
            now, before = session.ranks.firsts((now, self._before))
            self._before = set(now)
            new = [Alarm(self._trainer.stage.name, session.step, name, because) for name, because in now.items() if name not in before]
            if new:
                self._act(new, trouble)

    def _diagnosis(self) -> dict[str, str]:
        return diagnose([row for _, row in self._rows], self._plan.patience, self._trained)

    def _act(self, new: list[Alarm], trouble: str) -> None:
        assert self._session is not None
        session, plan = self._session, self._plan
        back = session.ranks.firsts(self._times_back())
        if plan.action == "roll_back" and back < plan.most:
            found = self._good(session.step if trouble else session.ranks.firsts(self._healthy_until()))
            to = found.state["global_step"]
            self._tell([attrs.evolve(alarm, action="rolled back", to=to, times=back + 1) for alarm in new[:1]])
            self._tell(new[1:])
            self._go_back(found)
        stops = plan.action != "warn"
        self._tell([attrs.evolve(alarm, action="stopped" if stops else "warned") for alarm in new])
        if stops:
            often = f", after it went back {back} time{'s' * (back > 1)}" if back else ""
            said = "; ".join(f"{SYMPTOMS[alarm.symptom].title}: {alarm.because}" for alarm in new)
            helps = ", or ".join(dict.fromkeys(SYMPTOMS[alarm.symptom].remedy for alarm in new))
            raise Unhealthy(
                f"stage {self._trainer.stage.name}, step {session.step}: stopped by its watch{often}: {said}. What helps: {helps}"
            )

    def _healthy_until(self) -> int:
        """The step of the last row before the symptom began to show."""
        return self._rows[-self._plan.patience - 1][0] if len(self._rows) > self._plan.patience else self._began

    def _good(self, until: int) -> Checkpoint:
        """The newest whole checkpoint of this stage that is no younger than a step; the stage's beginning is always there."""
        assert self._session is not None
        session, passed = self._session, list[Path]()
        for path in checkpoints.all_in(session.directory.checkpoints):
            try:
                found = checkpoints.load(path)
            except UserError:
                continue
            state = found.state
            if state["stage"] == self._number and state["global_step"] <= max(until, self._began) and not session.flaws(found.tensors):
                session.ranks.wait()
                for younger in passed if session.ranks.first else ():
                    remove(younger)
                return found
            passed.append(path)
        raise UserError(f"{session.directory.checkpoints}: no whole checkpoint of stage {self._trainer.stage.name} to go back to")

    def _go_back(self, found: Checkpoint) -> None:
        """The session is as it was at a checkpoint, and what was written since is forgotten."""
        assert self._session is not None
        session, to = self._session, found.state["global_step"]
        session.take(found.tensors, found.state)
        session.best = {name: group for name, group in found.tensors.items() if name.startswith("best-")}
        session.step, self._went_back = to, True
        if session.ranks.first and self._metrics.is_file():
            lines = self._metrics.read_text(encoding="utf-8").splitlines()
            write_text(self._metrics, "".join(f"{line}\n" for line in lines if json.loads(line)["step"] <= to))
        session.ranks.wait()
        raise GoBack(found)

    def _tell(self, alarms: list[Alarm]) -> None:
        """Each is recorded; a stage's first warning of a symptom is told, and whatever else follows from one."""
        assert self._session is not None
        for alarm in alarms:
            known = any((other.stage, other.symptom) == (alarm.stage, alarm.symptom) for other in self._alarms)
            self._alarms.append(alarm)
            if not known or alarm.action != "warned":
                self._session.tell(alarm.told)
        if self._session.ranks.first:
            self._record()
            self._session.directory.update(notices=self._session.notices)

    def _record(self) -> None:
        assert self._session is not None
        alarms: list[dict[str, Any]] = [attrs.asdict(alarm) for alarm in self._alarms]
        self._session.directory.update(watch={"rows": self._counts, "alarms": alarms})

    def on_stage_ended(self, event: StageEnded) -> None:
        if self._session is not None and self._first:
            self._record()

    def on_run_ended(self, event: RunEnded) -> None:
        if self._session is None or not self._first:
            return
        event.panels.append(panel(self._alarms, self._seen))
        event.panels.append(
            Panel(
                title="What the watch measures",
                place="training",
                text="Figures that begin with watch, row by row in the plots above.",
                header=("figure", "what it is", "what it is", "caution"),
                rows=[(f"watch/{figure.name}", figure.label, figure.meaning, figure.caution) for figure in FIGURES],
                source="watch",
            )
        )

    @property
    def _seen(self) -> int:
        return sum(self._counts.values())

    def on_run_closed(self, event: RunClosed) -> None:
        if self._session is not None and self._first:
            self._record()
            counted = Counter(SYMPTOMS[alarm.symptom].title for alarm in self._alarms)
            said = ", ".join(f"{title} ({times}×)" for title, times in counted.items()) or "nothing to warn of"
            event.closing.append(f"watch    {said} in {self._seen} rows of figures")


def panel(alarms: list[Alarm], rows: int) -> Panel:
    """What a watch saw, for the report."""
    text = f"{rows} rows of figures were looked at." + ("" if alarms else " Nothing was to be warned of.")
    names = {alarm.symptom for alarm in alarms}
    more = [f"{symptom.title}: {symptom.shows}. What helps: {symptom.remedy}." for name, symptom in SYMPTOMS.items() if name in names]
    table = [
        (a.stage, a.step, SYMPTOMS[a.symptom].title, a.because, a.action + (f" to step {a.to}" if a.to is not None else "")) for a in alarms
    ]
    return Panel(
        title="What the watch saw",
        place="training",
        text="\n\n".join([text, *more]),
        header=("stage", "step", "symptom", "what was seen", "what followed"),
        rows=table,
        source="watch",
    )
