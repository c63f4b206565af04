"""``ibllm runs`` and ``ibllm clean``: what runs there are, what became of them, what is left over."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ibllm_cli.main import main
from ibllm_runs.holding import holder

from ibllm_core.runs.directory import RunDirectory

MADE = Path(__file__).parents[1] / "compatibility"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with a finished run, one that was stopped, one that was killed, and one whose record is damaged."""
    folder = tmp_path / "runs"
    for name in ("finished", "stopped"):
        shutil.copytree(MADE / name, folder / "older" / name)
    for name in ("killed", "broken"):
        shutil.copytree(MADE / "stopped", folder / name)
    RunDirectory(folder / "killed").update(status="running", notices=["something was told"])
    (folder / "broken" / "run.json").write_text("[" * 100_000)
    (folder / "no run").mkdir()
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def listed(capsys: pytest.CaptureFixture[str], folder: Path) -> dict[str, dict[str, Any]]:
    return {Path(row["path"]).name: row for row in json.loads(said(capsys, "runs", folder, "--json"))}


def test_each_run_has_its_status_step_figures_and_what_happened(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys, runs)
    assert {name: row["status"] for name, row in found.items()} == {
        "finished": "done", "stopped": "interrupted", "killed": "killed", "broken": "damaged",
    }  # fmt: skip
    assert (found["stopped"]["step"], found["stopped"]["steps"], found["stopped"]["stage"]) == (1140, 1160, "joint")
    assert (found["finished"]["step"], found["finished"]["steps"]) == (1160, 1160)
    results = json.loads((MADE / "finished" / "results.json").read_text())
    assert found["finished"]["figures"]
    assert found["finished"]["figures"].items() <= results.items()
    assert any("killed" in sentence for sentence in found["killed"]["happened"])
    assert "something was told" in found["killed"]["happened"]
    assert "run.json is damaged" in found["broken"]["happened"][0]
    table = said(capsys, "runs", runs)
    assert "older/finished" in table
    assert f"go on with: ibllm run {runs / 'killed'} --resume" in table
    assert f"{runs / 'older' / 'finished'}: done" not in table, "nothing is said of a run of which there is nothing to say"


def test_a_run_is_being_trained_where_a_process_holds_it(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDirectory(runs / "killed")
    with run.held():
        found = listed(capsys, runs)["killed"]
        assert (found["status"], found["holder"]["pid"]) == ("running", os.getpid())
        (runs / "killed" / ".x.partial").touch()
        assert said(capsys, "clean", runs, "--only", "partial") == "nothing is left over\n", "a run that is trained is left alone"
    assert listed(capsys, runs)["killed"]["status"] == "killed"
    # Its number has gone to another process since: that one holds no lock.
    (run / ".lock.json").write_text(json.dumps({"pid": os.getppid(), "host": socket.gethostname(), "since": "then"}))
    assert holder(run) is None


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert said(capsys, "runs", tmp_path) == f"no runs in {tmp_path}\n"


@pytest.fixture
def littered(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """What is left over, by place: half-written files, a stage that no run begins with, a damaged checkpoint, a cache and a temporary folder."""
    monkeypatch.setenv("IBLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    study = runs / "study"
    folders = [
        runs / "killed" / "checkpoints" / f".step-0000004.{ended.pid}-1.partial",
        runs / "older" / "finished" / "checkpoints" / "damaged-step-0000001",
        study / "shared" / "unneeded",
        tmp_path / "cache" / "images",
        tmp_path / "temporary" / "ibllm-rehearsal-old",
    ]
    kept = [
        study / "shared" / "needed",
        runs / "killed" / "checkpoints" / f".step-0000004.{os.getpid()}-1.partial",
        runs / "killed" / "checkpoints" / "damaged-step-0000002",
        tmp_path / "temporary" / "ibllm-rehearsal-new",
        tmp_path / "temporary" / "another",
    ]
    for folder in (*folders, *kept):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * 5000)
    (study / "plan.json").write_text(json.dumps({"name": "question", "stages": ["needed"]}))
    for name in ("ibllm-rehearsal-old/file", "ibllm-rehearsal-old", "another"):
        os.utime(tmp_path / "temporary" / name, (time.time() - 90_000,) * 2)
    return set(folders)


def test_what_is_left_over_is_shown_and_then_removed(littered: set[Path], runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(runs.parent.rglob("*"))
    found = json.loads(said(capsys, "clean", runs, "--json"))
    assert {Path(one["path"]) for one in found} == littered
    assert all(one["bytes"] >= 5000 for one in found)
    shown = said(capsys, "clean", runs)
    assert all(str(path) in shown for path in littered)
    assert "ibllm clean --yes removes them" in shown
    assert set(runs.parent.rglob("*")) == before, "nothing is removed before somebody agrees"
    assert "removed 1," in said(capsys, "clean", runs, "--only", "stages", "--yes")
    assert "removed 4," in said(capsys, "clean", runs, "--yes")
    gone = before - set(runs.parent.rglob("*"))
    assert gone == littered | {path / "file" for path in littered}
    assert said(capsys, "clean", runs) == "nothing is left over\n"


def test_what_cannot_be_removed_is_named(littered: set[Path], runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    def refuse(path: Path) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr("ibllm_runs.leftovers.shutil.rmtree", refuse)
    assert main(["clean", str(runs), "--yes"]) == 2
    assert "Read-only file system" in capsys.readouterr().err
