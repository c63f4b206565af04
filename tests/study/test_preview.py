"""What is shown before and while a study runs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from ibllm_cli.main import main
from ibllm_study.directory import DONE, FAILED, RUNNING, WAITING
from ibllm_study.display import LiveWatcher
from ibllm_study.plan import make_plan
from ibllm_study.runner import Progress
from ibllm_study.study_file import read_study
from rich.console import Console

STUDY = """
[variants]
"no [red] cycle" = { "losses.cycle" = false }
[axes]
"losses.joint.lambda" = [0.0]
"""


def test_the_plan_has_every_run_and_what_it_shares(
    write_study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],  # type: ignore[no-untyped-def]
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    assert main(["ablate", str(write_study(STUDY)), "--study-dir", str(tmp_path / "out"), "--plan"]) == 0
    said = capsys.readouterr().out
    assert "3 arms × 2 seeds = 6 runs" in said
    assert "losses.joint.lambda: 0.5 → 0.0" in said
    rows = [line.split() for line in said.splitlines() if line.rstrip().endswith("waiting")]
    assert len(rows) == 6
    assert sum("image base 6" in " ".join(row) for row in rows) == 4, "two of three arms start after the image stage that the base trains"
    assert "64 of 120 iterations are trained; the other 56 (47%) are shared" in said
    assert "no difference, however large, can pass 0.05" in said
    assert "no [red] cycle" in said
    assert not (tmp_path / "out").exists(), "a plan leaves nothing behind"


def test_the_table_shows_figures_stages_and_failures(write_study) -> None:  # type: ignore[no-untyped-def]
    plan = make_plan(read_study(write_study(STUDY)))
    found = [
        Progress(status=DONE, results={"novel/scene_exact": 0.25}),
        Progress(status=RUNNING, stage="image", share=0.5),
        Progress(status=FAILED, reason="boom"),
    ]
    progress = {cell.id: found[n] if n < 3 else Progress(status=WAITING) for n, cell in enumerate(plan.cells)}
    watcher = LiveWatcher(plan)
    try:
        out = io.StringIO()
        Console(file=out, width=120).print(watcher.view(progress))
    finally:
        watcher.close()
    lines = out.getvalue().splitlines()
    assert lines[2].split() == ["base", "25.0", "%", "·", "25.0", "%"]
    assert lines[3].split() == ["no", "[red]", "cycle", "image", "50", "%", "·"]
    assert "failed" in lines[4]
    assert "2 of 6 runs" in out.getvalue()


def test_intervals_are_shown_as_they_come(write_study) -> None:  # type: ignore[no-untyped-def]
    plan = make_plan(read_study(write_study(STUDY)))
    arms = [arm.name for arm in plan.arms]
    values = {(arms[0], 0): 0.25, (arms[0], 1): 0.35, (arms[2], 0): 0.5, (arms[2], 1): 0.62}
    progress = {
        cell.id: Progress(status=DONE, results={"novel/scene_exact": values[cell.arm.name, cell.seed]})
        if (cell.arm.name, cell.seed) in values
        else Progress(status=WAITING)
        for cell in plan.cells
    }
    watcher = LiveWatcher(plan)
    try:
        out = io.StringIO()
        Console(file=out, width=160).print(watcher.view(progress))
    finally:
        watcher.close()
    base, _, other = out.getvalue().splitlines()[2:5]
    # Student's t with one degree of freedom: 12.706 standard errors.
    assert "30.0 % [−33.5, 93.5]" in base
    assert "56.0 % [−20.2, 132.2]" in other and "+26.0 [+13.3, +38.7]" in other
