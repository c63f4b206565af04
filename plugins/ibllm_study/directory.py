"""A study is a directory: its runs, what they share, what became of them, and the tables. Torch-free."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from ibllm.sources import changed
from ibllm_core.errors import UserError, system_error
from ibllm_core.runs.directory import RunDirectory, write_json, write_text

from .plan import Cell, Plan, plain
from .schema import Study
from .sharing import Shelf, finished

#: What may have become of a cell.
WAITING, RUNNING, DONE, FAILED, PRUNED = "waiting", "running", "done", "failed", "pruned"


@attrs.frozen(kw_only=True)
class Outcome:
    """What became of a cell.

    Attributes:
        reason: why it failed, one line.
        results: the run's flat table of figures; empty unless done.
        info: run.json.
    """

    status: str
    reason: str = ""
    results: Mapping[str, float] = attrs.field(factory=dict)
    info: Mapping[str, Any] = attrs.field(factory=dict)


#: The folders that a study begins with.
_FOLDERS = ("runs", "logs", "failures", "shared", "locks")


class StudyDirectory:
    """Paths and records of one study.

    ``study.toml`` (as it was given), ``plan.json``, ``runs/ID/`` (run directories), ``logs/ID.txt``, ``failures/ID.json``, ``shared/KEY/`` (stages
    that several runs start from), ``locks/``; and what is made of them: ``study.html``, ``table.md``, ``table.tex``, ``table.csv``, ``runs.csv``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shelf = Shelf(path / "shared")

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def run(self, cell: Cell) -> RunDirectory:
        return RunDirectory(self / "runs" / cell.id)

    def log(self, cell: Cell) -> Path:
        return self / "logs" / f"{cell.id}.txt"

    def failure(self, cell: Cell) -> Path:
        return self / "failures" / f"{cell.id}.json"

    def lock(self, name: str) -> Path:
        return self / "locks" / f"{name}.lock"

    def accept(self, study: Study, accept: bool) -> Study:
        """The study with keys of the source that its runs here were made with, if that is accepted, or if they do not say which it was."""
        held = _read(self / "plan.json")
        if not held or held.get("name") != study.name:
            return study
        known = held.get("sources")
        return attrs.evolve(study, accepted=None if known is None else known if accept else {})

    def threads(self, study: Study) -> int:
        """Of each run: what the study's file says, else what the runs here had, else OMP_NUM_THREADS, else one."""
        held, said = _read(self / "plan.json"), os.environ.get("OMP_NUM_THREADS", "")
        if "threads" in study.document.data:
            return study.table.threads
        if held.get("name") == study.name:
            return int(held.get("threads", study.table.threads))
        return int(said) if said.isdecimal() and int(said) > 0 else study.table.threads

    def changed(self, plan: Plan) -> list[str]:
        """Packages, and runs that weights are taken from, whose state is another one than when the runs here were made."""
        return changed(_read(self / "plan.json").get("sources") or {}, plan.here)

    def prepare(self, plan: Plan) -> None:
        """Makes the directory, or goes on with one of the same study. Raises `UserError` where it is something else's."""
        held = self._held()
        if held is not None and held != plan.study.name:
            raise UserError(f"{self.path} holds the study {held!r}, not {plan.study.name!r}; choose another place (--study-dir DIR)")
        if held is None and self.path.exists() and not self._begun() and not self._is_study():
            raise UserError(f"{self.path} exists already and is no study; choose another place (--study-dir DIR)")
        try:
            for name in _FOLDERS:
                (self / name).mkdir(parents=True, exist_ok=True)
            write_text(self / "study.toml", plan.study.source)
            write_json(self / "plan.json", plain(plan))
        except OSError as error:
            raise UserError(f"cannot write the study directory {self.path}: {system_error(error) or error}") from error

    def check_held(self, plan: Plan) -> None:
        """Raises `UserError` unless the directory holds the plan's study."""
        held = self._held() or (plan.study.name if self._is_study() else None)
        if held != plan.study.name:
            what = f"holds the study {held!r}" if held else "holds no study"
            raise UserError(f"{self.path} {what}; run {plan.study.name!r} first, or say where it is (--study-dir DIR)")
        others = self.others(plan)
        if others and not any((self / "runs" / cell.id).is_dir() for cell in plan.cells):
            before = " ".join(map(str, _read(self / "plan.json").get("options", []))) or "none"
            edited = self.changed(plan)
            why = (
                f"the source or the weights of {', '.join(edited)} have changed (--accept-code takes the runs as they are)"
                if edited
                else f"its file, its base or the version of a package has changed, or it was run with other options ({before}: give the same)"
            )
            ways = "put it back as it was, make the runs anew (the same command without --report or --verify), or name another place (--study-dir DIR)"
            raise UserError(f"{self.path} holds {len(others)} runs, none of them of this study as it stands: {why}; {ways}")

    def outcome(self, cell: Cell) -> Outcome:
        """What became of a cell, as far as its files say; one that is being run counts as waiting."""
        return self.outcome_of(cell.id)

    def outcome_of(self, name: str) -> Outcome:
        """The same of a cell by its name."""
        run = RunDirectory(self / "runs" / name)
        info = _read(run / "run.json")
        if finished(run):
            return Outcome(status=DONE, results=_read(run.results), info=info)
        failure = _read(self / "failures" / f"{name}.json")
        if failure:
            return Outcome(status=str(failure.get("status", FAILED)), reason=str(failure.get("reason", "")), info=info)
        return Outcome(status=WAITING, info=info)

    def fail(self, cell: Cell, reason: str, status: str = FAILED) -> None:
        """Records that a cell failed (or was given up by a search)."""
        write_json(self.failure(cell), {"status": status, "reason": reason, "log": str(self.log(cell))})

    def forget_failures(self, cells: Iterable[Cell]) -> None:
        """Lets failed cells be tried again; what a search has given up stays so."""
        for cell in cells:
            if self.outcome(cell).status == FAILED:
                self.failure(cell).unlink(missing_ok=True)

    def others(self, plan: Plan) -> list[str]:
        """Runs here that the plan no longer has: of an earlier version of the study."""
        known = {cell.id for cell in plan.cells}
        return sorted(path.name for path in (self / "runs").glob("*") if path.is_dir() and path.name not in known)

    def _is_study(self) -> bool:
        return (self / "study.toml").is_file() and (self / "runs").is_dir()

    def _begun(self) -> bool:
        """Whether it holds no more than what `prepare` makes first: another process may be about it right now."""
        return self.path.is_dir() and all(
            entry.name.startswith((".study.toml.", "study.toml", ".plan.json.")) or (entry.name in _FOLDERS and not any(entry.iterdir()))
            for entry in self.path.iterdir()
        )

    def _held(self) -> str | None:
        """The name of the study that is here; a damaged plan.json is as good as none, and the plan is what it is made of again."""
        found = _read(self / "plan.json").get("name")
        return str(found) if found is not None else None


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none or it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
