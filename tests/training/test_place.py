"""What a run can be told before it computes, or once it has begun: that its place cannot be written, that its cores are busy."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ibllm_diagnose import place, slow_steps
from ibllm_diagnose.slow_steps import SlowSteps

import ibllm
from ibllm_core.errors import UserError
from ibllm_core.runs.directory import Held, RunDirectory
from ibllm_core.training.events import Logged, StageStarted, TrainerBuilt

from .conftest import TINY


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    place.tried(tmp_path / "runs" / "new")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "there").mkdir()
    place.tried(tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr("ibllm_core.training.job.Session", lambda *_: pytest.fail("something is built"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        with pytest.raises(UserError, match=r"new: Read-only file system; choose another place \(--run-dir DIR\)"):
            ibllm.recipe(TINY).run(tmp_path / "new")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", refuse)
        with pytest.raises(UserError, match="new: Read-only file system; choose a place that can be written to"):
            ibllm.recipe(TINY).run(tmp_path / "new")
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "held", lambda self: (_ for _ in ()).throw(Held(f"{self.path} is being trained in by another process")))
        with pytest.raises(UserError, match="new is being trained in by another process"):
            ibllm.recipe(TINY).run(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def hint(monkeypatch: pytest.MonkeyPatch, wall: float, own: float, every: float, threads: int = 2, device: str = "cpu") -> list[str]:
    """What is told of a first row of figures after so many seconds, in which this thread computed `own` and all together `every`."""
    now = {"perf_counter": 10.0, "thread_time": 1.0, "process_time": 1.0}
    monkeypatch.setattr(slow_steps, "time", SimpleNamespace(**{name: lambda name=name: now[name] for name in now}))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    told, listener = list[str](), SlowSteps()
    session = SimpleNamespace(model=SimpleNamespace(device=torch.device(device)), tell=told.append)
    for stage in ("text", "image"):
        listener.on_trainer_built(TrainerBuilt(session, None))  # type: ignore[arg-type]
        listener.on_stage_started(StageStarted(None, 1, 2, 0))  # type: ignore[arg-type]
        for name, seconds in zip(now, (wall, own, every), strict=True):
            now[name] += seconds
        listener.on_logged(Logged("validation", stage, 5, 5, {}))
        listener.on_logged(Logged("train", stage, 5, 5, {}))
    return told


def test_busy_cores_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hint(monkeypatch, 60, 5, 10) == [
        "stage text: steps take 12 times as long as they compute, with threads = 2: other programs use these cores, or data are slow to come; "
        "compute.threads = 1 (--set compute.threads=1) may be faster"
    ]
    assert hint(monkeypatch, 60, 5, 5, threads=1)[0].endswith("or data are slow to come")
    assert hint(monkeypatch, 60, 50, 60, threads=16) == [], "one thread computes all the time"
    assert hint(monkeypatch, 60, 5, 110) == [], "the others do"
    assert hint(monkeypatch, 10, 1, 1) == [], "too short to say"
    assert hint(monkeypatch, 60, 5, 5, device="meta") == [], "not the CPU's business"
