"""Who computes the runs of a study: how a launcher is chosen, and what becomes of a run whose machine dies."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from ibllm_study.directory import DONE, FAILED, StudyDirectory
from ibllm_study.plan import Plan, make_plan
from ibllm_study.runner import LOST, Runner, Watcher
from ibllm_study.study_file import read_study
from ibllm_study.worker import BUSY

from ibllm.launching import Ended, Launcher, Place, Task, launchers, make_launcher
from ibllm_core.errors import UserError

from .conftest import Write, invoke
from .pretended import AtOnce


class Told(Watcher):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def prepared(path: Path) -> tuple[Plan, StudyDirectory]:
    plan, directory = make_plan(read_study(path)), StudyDirectory(path.parent / "out")
    directory.prepare(plan)
    return plan, directory


def local(folder: Path, jobs: int = 1) -> Launcher:
    return make_launcher("local", (), Place(folder=folder, jobs=jobs))


def until_ended(launcher: Launcher, count: int) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    while len(found) < count:
        launcher.wait(1.0)
        found |= {name: ended.code for name, ended in launcher.ended().items()}
    return found


def test_a_run_whose_machine_dies_is_tried_again_and_not_for_ever(write_study: Write) -> None:
    plan, directory = prepared(write_study('[variants]\n"no cycle" = { "losses.cycle" = false }', seeds=1))
    unlucky, hopeless = (cell.id for cell in plan.cells)
    launcher, told = AtOnce(lost={unlucky: 2, hopeless: 99}), Told()
    outcomes = Runner(plan, directory, launcher, told).run()
    assert outcomes[unlucky].status == DONE
    assert launcher.started.count(unlucky) == 3
    assert (outcomes[hopeless].status, outcomes[hopeless].reason) == (FAILED, f"lost {LOST + 1} times: its machine died")
    assert "base, seed 0: its machine died; tried again (2 of 3)" in told.lines


def test_who_is_at_a_run_is_told_and_it_is_computed_once_nobody_is(write_study: Write) -> None:
    plan, directory = prepared(write_study("", seeds=1))
    (cell,) = plan.cells
    held = ExitStack()
    held.enter_context(directory.run(cell).held())

    class Busy(AtOnce):
        again = 0.0

        def start(self, task: Task) -> None:
            if (directory.run(cell) / ".lock.json").exists():
                self._ended[task.name] = Ended(code=BUSY)
            else:
                super().start(task)

    class Frees(Told):
        def say(self, text: str) -> None:
            super().say(text)
            held.close()

    told = Frees()
    assert Runner(plan, directory, Busy(), told).run()[cell.id].status == DONE
    (line,) = [line for line in told.lines if "waiting" in line]
    assert f"seed 0: process {os.getpid()} on {socket.gethostname()} has been at it since " in line


def test_a_clock_that_jumps_ends_no_run(write_study: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sign of life is that something is written, whatever time the files say it was; silence is measured by a clock that does not jump."""
    plan, directory = prepared(write_study("", seeds=1))
    (cell,) = plan.cells
    now = [0.0]
    monkeypatch.setattr("ibllm_study.runner.time", SimpleNamespace(monotonic=lambda: now[0], sleep=lambda _: None))

    class Slow(AtOnce):
        def start(self, task: Task) -> None:
            directory.log(cell).write_text("begun")

        def begun(self, name: str) -> bool:
            return True

    runner = Runner(plan, directory, Slow())
    silence = plan.study.table.silence
    for hours in (0, -24, 24, 48):
        os.utime(directory.log(cell), (1.7e9 + hours * 3600,) * 2) if directory.log(cell).exists() else None
        assert runner.step() and runner.outcomes[cell.id].status != FAILED
        now[0] += 0.9 * silence
    runner.step()
    now[0] += 0.2 * silence
    runner.step()
    assert runner.outcomes[cell.id].reason.startswith("hung: no sign of life")


def test_every_run_is_started_once(write_study: Write) -> None:
    plan, directory = prepared(write_study("", seeds=5))
    launcher = AtOnce(jobs=3)
    Runner(plan, directory, launcher).run()
    assert sorted(launcher.started) == sorted(cell.id for cell in plan.cells)
    again = AtOnce()
    Runner(plan, directory, again).run()
    assert again.started == [], "what is done is not started again"


def test_local_gives_exit_codes_output_and_threads_and_ends_what_is_stopped(tmp_path: Path) -> None:
    launcher = local(tmp_path, jobs=2)
    say = "import os, sys; print(os.environ['OMP_NUM_THREADS'], repr(os.environ['CUDA_VISIBLE_DEVICES'])); sys.exit(7)"
    launcher.start(Task(name="says", command=("/usr/bin/env", "python3", "-c", say), log=tmp_path / "says.txt", threads=3))
    launcher.start(Task(name="sleeps", command=("sleep", "600"), log=tmp_path / "sleeps.txt"))
    assert until_ended(launcher, 1) == {"says": 7}
    assert (tmp_path / "says.txt").read_text() == "3 ''\n"
    launcher.stop("sleeps")
    assert until_ended(launcher, 1) == {"sleeps": -15}
    launcher.close()


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("slurm", (), "no launcher is called 'slurm'"),
        ("local", ("partition",), "--launch partition: expected KEY=VALUE"),
        ("submitit", ("partitoin=gpu", "gpus=-1"), "gpus: -1 is out of range, expected >= 0; partitoin: unknown key"),
    ],
)
def test_mistakes_about_launchers_are_told_before_anything_runs(name: str, options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        make_launcher(name, options, Place(folder=tmp_path))
    assert said in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_refuses_an_unknown_launcher(write_study: Write, tmp_path: Path) -> None:
    result = invoke("ablate", write_study(""), "--study-dir", tmp_path / "out", "--launcher", "cloud")
    assert "no launcher is called 'cloud'" in str(result.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "module", "extra"), [("submitit", "submitit", "slurm"), ("ray", "ray", "ray")])
def test_what_a_launcher_needs_is_named(name: str, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"pip install 'ibllm\[{extra}\]'"):
        make_launcher(name, (), Place(folder=tmp_path))


def test_ours_are_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"local", "submitit", "ray"} <= launchers().keys()
    monkeypatch.setenv("IBLLM_BLOCK", "ray")
    assert "ray" not in launchers()
