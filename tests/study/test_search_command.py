"""A real search through the command line: trained, killed, gone on with, reported."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from ibllm_study.directory import StudyDirectory
from ibllm_study.plan import Plan, make_plan
from ibllm_study.sharing import run_key
from ibllm_study.study_file import read_study
from ibllm_study.trials import plan_from_storage

from ibllm_core.recipe import load
from tests import processes

pytestmark = pytest.mark.slow

SEARCH = """
design = "search"
search = { trials = 3, startup = 2 }
[set]
"stages.text.steps" = 2
"stages.image.steps" = 0
"stages.joint" = { steps = 2, losses = { joint = 1.0 } }
"stages.joint.validate" = { every = 1, items = 4, figure = "scene_exact" }
"evaluation" = { items = 4, after_stage = 0 }
[axes]
"optimizer.lr" = { low = 1e-4, high = 1e-2, log = true }
"losses.joint.lambda" = [0.25, 0.75]
"""


def ablate(study: Path, *options: object, cold: bool = False) -> subprocess.Popen[str]:
    """The command; `cold`: started as a user starts it, to be found in /proc and killed."""
    words = ("-m", "ibllm", "ablate", str(study), "--study-dir", str(study.parent / "out"), *map(str, options))
    command = [sys.executable, *words] if cold else processes.command(*words)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def said(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    return out


def write(folder: Path) -> Path:
    tiny = Path(__file__).parents[1] / "training" / "tiny.toml"
    path = folder / "study.toml"
    path.write_text(f'format = 1\nbase = "{tiny}"\nseeds = 1\nprimary = "novel/scene_exact"\n{SEARCH}', encoding="utf-8")
    return path


def opened(study: Path) -> tuple[Plan, StudyDirectory]:
    directory = StudyDirectory(study.parent / "out")
    return plan_from_storage(make_plan(read_study(study)), directory), directory


def stored(study: Path) -> list[tuple[object, ...]]:
    trials = optuna.load_study(study_name="study", storage=f"sqlite:///{study.parent / 'out' / 'search.db'}").trials
    return [(trial.state.name, trial.params, trial.value, trial.intermediate_values) for trial in trials]


def figures(study: Path) -> dict[str, dict[str, float]]:
    return {path.parent.name: json.loads(path.read_text()) for path in (study.parent / "out").glob("runs/*/results.json")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A search that ran to its end in one go, and what it said."""
    study = write(tmp_path_factory.mktemp("search"))
    return study, said(ablate(study, "--jobs", 1))


def test_the_database_holds_what_the_runs_gave(finished: tuple[Path, str]) -> None:
    study, _ = finished
    plan, directory = opened(study)
    found = figures(study)
    assert set(found) == {cell.id for cell in plan.cells}
    trials = stored(study)
    assert len(trials) == 3
    for (state, params, value, intermediate), arm in zip(trials, plan.arms[1:], strict=True):
        cell = plan.cell(arm.name, 0)
        assert state == "COMPLETE"
        assert arm.changes == params
        assert value == found[cell.id]["novel/scene_exact"]
        rows = [json.loads(line) for line in (directory.run(cell) / "metrics.jsonl").read_text().splitlines()]
        assert intermediate == {
            row["step"]: row["scene_exact"] for row in rows if row["kind"] == "validation" and row["stage"] == "joint"
        }  # fmt: skip


def test_the_command_that_it_ends_with_is_the_best_point(finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    study, out = finished
    plan, _ = opened(study)
    line = next(line for line in out.splitlines() if line.strip().startswith("ibllm run"))
    words = shlex.split(line)
    sets = [after for word, after in itertools.pairwise(words) if word == "--set"]
    best = max(range(3), key=lambda number: (stored(study)[number][2], -number))
    cell = plan.cell(plan.arms[1 + best].name, 0)
    assert run_key(load(words[2], sets, seed=0)) == cell.key
    assert words[words.index("--seed") + 1] == "1", "a seed that the search did not choose by"


def test_started_again_and_reported_again_nothing_is_trained(finished: tuple[Path, str]) -> None:
    study, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (study.parent / "out").glob("runs/*/run.json")}
    (study.parent / "out" / "runs.csv").unlink()
    said(ablate(study, "--report"))
    rows = (study.parent / "out" / "runs.csv").read_text()
    assert all(f"#{number} " in rows for number in range(3))
    assert "3 points: 3 run to the end" in said(ablate(study))
    assert {path: path.stat().st_mtime_ns for path in (study.parent / "out").glob("runs/*/run.json")} == before


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the workers are found through /proc")
def test_killed_and_started_again_it_ends_as_if_it_had_not_been(finished: tuple[Path, str], tmp_path: Path) -> None:
    study = write(tmp_path)
    process = ablate(study, "--jobs", 1, cold=True)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "out").glob("runs/0-*/metrics.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for victim in (process.pid, *map(int, workers)):
        os.kill(victim, signal.SIGKILL)
    process.communicate(timeout=60)
    assert stored(study)[0][0] == "RUNNING"
    said(ablate(study, "--jobs", 1))
    assert stored(study) == stored(finished[0])
    assert figures(study) == figures(finished[0])


def test_the_plan_shows_the_axes_and_trains_nothing(tmp_path: Path) -> None:
    study = write(tmp_path)
    out = said(ablate(study, "--plan"))
    assert "optimizer.lr" in out
    assert "losses.joint.lambda" in out
    assert "3" in out
    assert not (tmp_path / "out").exists()
