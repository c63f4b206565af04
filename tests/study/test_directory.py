"""Where a study may be put: a new place, its own, or one that another process of the same study is just making."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ibllm_study.directory import StudyDirectory
from ibllm_study.plan import make_plan
from ibllm_study.study_file import read_study

from ibllm_core.errors import UserError


@pytest.mark.parametrize("begun", [(), ("runs/",), ("runs/", "logs/", "failures/", "shared/", "locks/", ".study.toml.17-1.partial")])
def test_one_that_is_just_being_made_is_no_strangers(tmp_path: Path, write_study, begun: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    """Two processes that start a study at one time meet in each of these states."""
    plan, directory = make_plan(read_study(write_study("", seeds=1))), StudyDirectory(tmp_path / "out")
    for name in begun:
        path = directory / name
        path.mkdir(parents=True) if name.endswith("/") else path.write_text("")
    directory.prepare(plan)
    directory.prepare(plan)
    assert (directory / "plan.json").is_file()


@pytest.mark.parametrize("there", ["notes.txt", "runs/joint/recipe.toml", "data/1.png"])
def test_what_is_somebody_elses_is_left_alone(tmp_path: Path, write_study, there: str) -> None:  # type: ignore[no-untyped-def]
    plan, directory = make_plan(read_study(write_study("", seeds=1))), StudyDirectory(tmp_path / "out")
    (directory / there).parent.mkdir(parents=True)
    (directory / there).write_text("")
    with pytest.raises(UserError, match="exists already and is no study; choose another place"):
        directory.prepare(plan)
    assert [path for path in directory.path.rglob("*") if path.is_file()] == [directory / there]


def test_threads_are_the_files_else_those_of_the_runs_here_else_the_environments(write_study, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """And a study that has begun keeps them."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    path = write_study("")
    directory, study = StudyDirectory(path.parent / "out"), read_study(path)
    assert directory.threads(study) == 3
    plan = make_plan(read_study(path, threads=3))
    assert plan.base.compute.threads == 3
    directory.prepare(plan)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert directory.threads(study) == 3
    said = directory / "plan.json"
    said.write_text(json.dumps({**json.loads(said.read_text(encoding="utf-8")), "threads": 1}), encoding="utf-8")
    assert directory.threads(study) == 1
    assert directory.threads(read_study(write_study("threads = 2"))) == 2
    assert read_study(path, threads=5).table.threads == 2, "what the file says counts"
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert StudyDirectory(path.parent / "other").threads(read_study(write_study(""))) == 1
