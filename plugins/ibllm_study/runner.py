"""Runs a plan's cells, each a task of a launcher: several at a time, each isolated, none twice. Torch-free."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from ibllm.launching import Ended, Launcher, Task
from ibllm_core.errors import UserError
from ibllm_core.runs.directory import LOCK, read_json, write_json, write_text

from .directory import DONE, FAILED, PRUNED, RUNNING, WAITING, Outcome, StudyDirectory
from .plan import Cell, Plan
from .worker import BUSY, STOPPED

#: Failures of one reason after which what would fail alike is not started.
ENOUGH = 2
#: How reasons begin that lie with the machine, not with the recipe: the next run may well go through.
OF_THE_MACHINE = ("killed by", "hung", "lost")
#: Seconds between two looks at the workers where none ends.
LOOK = 0.2
#: How often a cell is tried again whose machine died.
LOST = 3


@attrs.frozen(kw_only=True)
class Progress:
    """How far a cell is: its status, the stage it is in, and the share of its iterations that are done."""

    status: str
    stage: str = ""
    share: float = 0.0
    results: Mapping[str, float] = attrs.field(factory=dict)
    reason: str = ""


class Watcher:
    """Listens to how a study goes; the command line's displays do. Silent by default."""

    def started(self, cell: Cell) -> None:
        """A worker took the cell."""

    def ended(self, cell: Cell, outcome: Outcome, seconds: float) -> None:
        """A cell is done or has failed, after so many seconds of this invocation."""

    def planned(self, plan: Plan) -> None:
        """The plan has grown."""

    def looked(self, progress: Mapping[str, Progress]) -> None:
        """Called often: cell id → how far it is."""

    def say(self, text: str) -> None:
        """A line for the user."""


@attrs.define(eq=False)
class _Worker:
    cell: Cell
    #: When it was seen to begin or to write last; None while it waits for a machine.
    alive: float | None = None
    #: When its files were written last, by their own clock.
    written: tuple[float, float] = (0.0, 0.0)
    started: float = attrs.field(factory=time.monotonic)


class Runner:
    """Executes a plan.

    Args:
        launcher: what computes the cells.
        accept_code: workers go on although source code, or a run to start from, is not what the plan was made with.
    """

    def __init__(
        self, plan: Plan, directory: StudyDirectory, launcher: Launcher, watcher: Watcher | None = None, accept_code: bool = False
    ) -> None:
        self.plan, self.directory, self.launcher, self.accept_code = plan, directory, launcher, accept_code
        self.watcher = watcher or Watcher()
        self.outcomes: dict[str, Outcome] = {cell.id: directory.outcome(cell) for cell in plan.cells}
        self._workers: dict[str, _Worker] = {}
        self._not_before: dict[str, float] = {}
        self._lost: Counter[str] = Counter()
        self._stopping = 0
        self._alike: dict[str, list[Cell]] = {}
        self._told = 0.0
        #: Cells that are not started, since runs like them have failed alike.
        self.held: dict[str, str] = {}
        #: Cells that a sequential study does not take yet, or not at all.
        self.later: set[str] = set()

    def run(self, also: Callable[[], bool] = lambda: False) -> Mapping[str, Outcome]:
        """Runs what is not done; returns every cell's outcome. After `stop`, what was running is left with a checkpoint.

        Args:
            also: called at every look; may `add` and `give_up`, and says whether more is to come.
        """
        for cell in self.plan.cells:
            if self.outcomes[cell.id].status == FAILED:
                self._count(cell, self.outcomes[cell.id].reason)
        try:
            while any([self.step(), also()]):
                self.launcher.wait(LOOK)
        finally:
            self._end_all(now=True)
            self.launcher.close()
        return self.outcomes

    def step(self) -> bool:
        """One look at the workers; False once nothing is left to do."""
        ended = self.launcher.ended()
        for worker in list(self._workers.values()):
            self._look(worker, ended.get(worker.cell.id))
        if not self._stopping:
            self._start_some()
        ahead = any(o.status == WAITING for name, o in self.outcomes.items() if name not in self.held and name not in self.later)
        more = bool(self._workers) or (not self._stopping and ahead)
        if time.monotonic() - self._told > LOOK or not more:
            self._told = time.monotonic()
            self.watcher.looked({cell.id: self.progress(cell) for cell in self.plan.cells})
        return more

    def stop(self) -> None:
        """Asks the workers to stop with a checkpoint; a second time ends them at once."""
        self._stopping += 1
        self._end_all(now=self._stopping > 1)

    @property
    def stopped(self) -> bool:
        return self._stopping > 0

    @property
    def spare(self) -> int:
        """Workers that no waiting cell is there for; what somebody else is running needs none of ours."""
        waiting = [cell.id for cell in self.plan.cells if self.outcomes[cell.id].status == WAITING]
        return self.launcher.jobs - sum(name in self._workers or name not in self._not_before for name in waiting)

    def add(self, plan: Plan) -> None:
        """Goes on with a plan that has further cells."""
        self.plan = plan
        self.watcher.planned(plan)
        for cell in plan.cells:
            self.outcomes.setdefault(cell.id, self.directory.outcome(cell))

    def give_up(self, cell: Cell, reason: str) -> None:
        """Ends a cell that a search need not see finished, or keeps it from being started."""
        if self._workers.pop(cell.id, None) is not None:
            self.launcher.stop(cell.id, now=True)
        self.directory.fail(cell, reason, PRUNED)
        self.outcomes[cell.id] = Outcome(status=PRUNED, reason=reason)

    def progress(self, cell: Cell) -> Progress:
        """How far a cell is."""
        outcome = self.outcomes[cell.id]
        if cell.id not in self._workers:
            return Progress(status=outcome.status, results=outcome.results, reason=outcome.reason, share=float(outcome.status == DONE))
        last = last_row(self.directory.run(cell) / "metrics.jsonl")
        total = sum(stage.steps for stage in cell.recipe.running())
        share = min(1.0, float(last.get("step", 0)) / max(1, total))
        return Progress(status=RUNNING, stage=str(last.get("stage", "")), share=share)

    def _start_some(self) -> None:
        now = time.monotonic()
        for cell in self.plan.cells:
            if len(self._workers) >= self.launcher.jobs:
                return
            waits = self.outcomes[cell.id].status == WAITING and cell.id not in self._workers
            if not waits or cell.id in self.held or cell.id in self.later or self._not_before.get(cell.id, 0) > now or self._blocked(cell):
                continue
            # Another invocation may have finished it meanwhile.
            self.outcomes[cell.id] = outcome = self.directory.outcome(cell)
            if outcome.status == WAITING:
                self._start(cell)
            else:
                self.watcher.ended(cell, outcome, 0.0)

    def _blocked(self, cell: Cell) -> bool:
        """Whether one of our workers is training a stage that this cell will start from."""
        shelf = self.directory.shelf
        training = {prefix.key for worker in self._workers.values() for prefix in worker.cell.prefixes if prefix not in shelf}
        return any(prefix.key in training for prefix in cell.prefixes)

    def _start(self, cell: Cell) -> None:
        directory = self.directory
        task = directory / "runs" / f"{cell.id}.json"
        recipe = directory / "runs" / f"{cell.id}.toml"
        write_text(recipe, cell.recipe.source)
        command = shlex.join(["ibllm", "run", str(recipe), "--run-dir", str(directory.run(cell).path)])
        write_json(
            task,
            {
                "recipe": str(recipe.absolute()),
                "run": str(directory.run(cell).path.absolute()),
                "shelf": str(directory.shelf.path.absolute()),
                "locks": str((directory / "locks").absolute()),
                "prefixes": [attrs.asdict(prefix) for prefix in cell.prefixes],
                "command": command,
                "sources": None if self.accept_code else self.plan.here,
                "data": dict(cell.data),
            },
        )
        self.launcher.start(worker_task(cell.id, task, directory.log(cell), self.plan.study.table.threads))
        self._workers[cell.id] = _Worker(cell)
        self.watcher.started(cell)

    def _look(self, worker: _Worker, ended: Ended | None) -> None:
        cell = worker.cell
        if ended is None:
            self._look_for_life(worker)
        elif ended.code is None:
            self._try_again(worker, ended.reason)
        elif ended.code == BUSY:
            if cell.id not in self._not_before:
                self.watcher.say(f"{cell.arm.name}, seed {cell.seed}: {self._who(cell)}; waiting")
            self._not_before[cell.id] = time.monotonic() + self.launcher.again
            del self._workers[cell.id]
        elif ended.code == STOPPED or (self._stopping and ended.code < 0):
            del self._workers[cell.id]
        else:
            self._finish(worker, "" if ended.code == 0 else why_ended(ended.code, self.directory.log(cell)))

    def _who(self, cell: Cell) -> str:
        """Who keeps a cell from being computed now."""
        with contextlib.suppress(UserError, OSError):
            if said := read_json(self.directory.run(cell) / f"{LOCK}.json"):
                return f"process {said.get('pid')} on {said.get('host')} has been at it since {said.get('since')}"
        return "another invocation is at a stage that it starts from"

    def _look_for_life(self, worker: _Worker) -> None:
        """Ends a worker that has written nothing for as long as the study says, by this process's clock: that of the files may be another, or jump."""
        cell, silence = worker.cell, self.plan.study.table.silence
        written = _touched(self.directory.log(cell)), _touched(self.directory.run(cell) / "metrics.jsonl")
        if (worker.alive is None and self.launcher.begun(cell.id)) or (worker.alive is not None and written != worker.written):
            worker.alive, worker.written = time.monotonic(), written
        if worker.alive is not None and time.monotonic() - worker.alive > silence:
            self.launcher.stop(cell.id, now=True)
            self._finish(worker, f"hung: no sign of life for {silence:.0f} s, so it was ended")

    def _try_again(self, worker: _Worker, reason: str) -> None:
        """A cell whose machine died goes on from its last checkpoint on another one."""
        cell = worker.cell
        self._lost[cell.id] += 1
        if self._stopping or self.directory.outcome(cell).status == DONE or self._lost[cell.id] > LOST:
            self._finish(worker, reason and f"lost {self._lost[cell.id]} times: {reason}")
            return
        del self._workers[cell.id]
        self.watcher.say(f"{cell.arm.name}, seed {cell.seed}: {reason}; tried again ({self._lost[cell.id]} of {LOST})")

    def _finish(self, worker: _Worker, reason: str) -> None:
        cell = worker.cell
        del self._workers[cell.id]
        if not reason and self.directory.outcome(cell).status != DONE:
            reason = "it ended without results"
        if reason:
            self.directory.fail(cell, reason)
            self._count(cell, reason)
        self.outcomes[cell.id] = outcome = self.directory.outcome(cell)
        self.watcher.ended(cell, outcome, time.monotonic() - worker.started)

    def _count(self, cell: Cell, reason: str) -> None:
        """Holds back what would fail as others did: the rest of their arms, and the rest of the study while no run has succeeded."""
        if reason.startswith(OF_THE_MACHINE):
            return
        same = self._alike.setdefault(re.sub(r"\d+", "0", reason.replace(cell.id, "")), [])
        same.append(cell)
        if len(same) < ENOUGH:
            return
        arms = {other.arm.name for other in same}
        none = not any(outcome.status == DONE for outcome in self.outcomes.values())
        held = [c.id for c in self.plan.cells if self.outcomes[c.id].status == WAITING and (none or c.arm.name in arms)]
        held = [name for name in held if name not in self.held and name not in self._workers]
        self.held |= dict.fromkeys(held, reason)
        if held:
            self.watcher.say(f"{len(same)} runs failed alike, so {len(held)} more like them are not started: {reason}")

    def _end_all(self, now: bool) -> None:
        for name in self._workers:
            self.launcher.stop(name, now)


def worker_task(name: str, task: Path, log: Path, threads: int) -> Task:
    """What a launcher is to compute: a worker with its task."""
    return Task(name=name, command=(sys.executable, "-m", f"{__package__}.worker", str(task.absolute())), log=log, threads=threads)


def last_row(path: Path) -> dict[str, Any]:
    """The last whole line of a metrics file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            lines = file.read().splitlines()
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return {}


def _touched(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def why_ended(code: int, log: Path) -> str:
    """Why a worker ended, from its exit code and the last line of its log."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")
    try:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    return lines[-1][:300] if lines else f"exit code {code}"


def failed(outcomes: Mapping[str, Outcome]) -> list[str]:
    """The cells that failed."""
    return [cell for cell, outcome in outcomes.items() if outcome.status == FAILED]
