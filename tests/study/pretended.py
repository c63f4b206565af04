"""Launchers that compute nothing: a run's files are there at once, or its machine dies."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from ibllm.launching import Ended, Launcher, Task


class AtOnce(Launcher):
    """Each task is done as soon as it is started; ``lost[name]`` times its machine dies first."""

    def __init__(self, jobs: int = 2, lost: dict[str, int] | None = None) -> None:
        self.jobs = jobs
        self.lost = lost or {}
        self.started: list[str] = []
        self._ended: dict[str, Ended] = {}

    def start(self, task: Task) -> None:
        self.started.append(task.name)
        if self.lost.get(task.name, 0):
            self.lost[task.name] -= 1
            self._ended[task.name] = Ended(code=None, reason="its machine died")
            return
        run = Path(json.loads(Path(task.command[-1]).read_text(encoding="utf-8"))["run"])
        run.mkdir(parents=True, exist_ok=True)
        (run / "run.json").write_text('{"status": "done"}', encoding="utf-8")
        (run / "results.json").write_text('{"novel/scene_exact": 0.5}', encoding="utf-8")
        self._ended[task.name] = Ended(code=0)

    def ended(self) -> Mapping[str, Ended]:
        found, self._ended = self._ended, {}
        return found

    def stop(self, name: str, now: bool = False) -> None:
        self._ended[name] = Ended(code=-15)

    def wait(self, seconds: float) -> None:
        os.sched_yield()
