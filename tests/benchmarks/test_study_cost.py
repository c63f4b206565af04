"""What a study costs beside its runs: a thousand cells whose runs do nothing, started, followed and recorded."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ibllm_study.directory import DONE, StudyDirectory
from ibllm_study.plan import make_plan
from ibllm_study.runner import Runner
from ibllm_study.study_file import read_study

from tests.study.pretended import AtOnce

from .rounds import both

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
#: The most that a cell may cost beside its run, in milliseconds.
BAR = 20.0


@both
def test_a_cell_costs_the_runner_little(tmp_path: Path, measured: bool) -> None:
    arms, seeds = (20, 50) if measured else (2, 2)
    weights = ", ".join(f"{0.5 + number}" for number in range(arms - 1))
    path = tmp_path / "study.toml"
    lines = [f'format = 1\nbase = "{TINY}"\nseeds = {seeds}\nprimary = "novel/scene_exact"', f'[axes]\n"losses.cycle.weight" = [{weights}]']
    path.write_text("\n".join(lines), encoding="utf-8")
    began = time.process_time()
    plan, directory = make_plan(read_study(path)), StudyDirectory(tmp_path / "out")
    planned = time.process_time()
    directory.prepare(plan)
    outcomes = Runner(plan, directory, AtOnce(jobs=os.cpu_count() or 1)).run()
    cells = len(plan.cells)
    spent, before = 1000 * (time.process_time() - planned) / cells, 1000 * (planned - began) / cells
    print(
        f"{cells} cells, milliseconds of the processor a cell: {spent:.1f} for the runner (bar {BAR}), {before:.1f} before it for the plan"
    )
    assert all(outcome.status == DONE for outcome in outcomes.values())
    assert spent <= BAR or not measured
