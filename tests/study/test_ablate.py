"""``ibllm ablate`` as a user runs it: worker processes, shared stages, going on after any interruption."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ibllm_launchers.local import visible
from ibllm_study.directory import DONE, FAILED, WAITING, StudyDirectory
from ibllm_study.plan import Plan, make_plan
from ibllm_study.runner import Runner, Watcher
from ibllm_study.sharing import end_of
from ibllm_study.study_file import read_study
from safetensors.torch import load_file

from ibllm.launching import Place, make_launcher
from ibllm_core.training.job import Job
from tests import processes

pytestmark = pytest.mark.slow

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
LAMBDA = """
[variants]
"no cycle" = { "losses.cycle" = false }
[axes]
"losses.joint.lambda" = [0.0]
"""


def ablate(study: Path, *options: object, wait: bool = True, cold: bool = False) -> subprocess.Popen[str]:
    """The command in a process group of its own; `cold`: started as a user starts it, to be found in /proc and killed."""
    words = ("-m", "ibllm", "ablate", str(study), "--study-dir", str(study.parent / "out"), *map(str, options))
    command = [sys.executable, *words] if cold else processes.command(*words)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    if wait:
        process.wait(timeout=300)
    return process


def opened(study: Path) -> tuple[Plan, StudyDirectory]:
    return make_plan(read_study(study)), StudyDirectory(study.parent / "out")


def figures(directory: StudyDirectory, plan: Plan) -> dict[str, dict[str, float]]:
    return {cell.id: json.loads(directory.run(cell).results.read_text()) for cell in plan.cells}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was run to its end by the command line."""
    path = tmp_path_factory.mktemp("study") / "study.toml"
    path.write_text(f'format = 1\nbase = "{TINY}"\nseeds = 2\nprimary = "novel/scene_exact"\n{LAMBDA}', encoding="utf-8")
    process = ablate(path, "--jobs", 2)
    assert process.stdout is not None
    assert process.returncode == 0, process.stdout.read()
    return path


def test_every_cell_is_done_and_each_stage_that_is_shared_was_trained_once(finished: Path) -> None:
    plan, directory = opened(finished)
    assert all(directory.outcome(cell).status == DONE for cell in plan.cells)
    started = {cell.id: directory.run(cell).info().get("shared", {}).get("stage") for cell in plan.cells}
    assert sorted(map(str, started.values())) == ["None", "None", "image", "image", "image", "image"]


def test_a_shared_start_gives_bit_for_bit_what_a_full_run_gives(finished: Path, tmp_path: Path) -> None:
    plan, directory = opened(finished)
    cell = next(cell for cell in plan.cells if "shared" in directory.run(cell).info())
    alone = Job(cell.recipe, tmp_path / "alone").run()
    assert alone == json.loads(directory.run(cell).results.read_text())
    ours = load_file(directory.run(cell).model / "weights.safetensors")
    theirs = load_file(tmp_path / "alone" / "model" / "weights.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(bool((ours[name] == theirs[name]).all()) for name in ours)
    rows = [json.loads(line) for line in (directory.run(cell) / "metrics.jsonl").read_text().splitlines()]
    assert {row["stage"] for row in rows} == {"text", "image", "joint", "end"}, "its learning curves are whole"


def test_what_is_done_is_not_run_again_and_what_is_new_is(finished: Path) -> None:
    plan, directory = opened(finished)
    before = {cell.id: (directory.run(cell) / "run.json").stat().st_mtime_ns for cell in plan.cells}
    text = finished.read_text()
    try:
        finished.write_text(text + '"stages.joint.steps" = [0]\n')
        assert ablate(finished).returncode == 0
        larger, _ = opened(finished)
        assert len(larger.cells) == len(plan.cells) + 2
        assert all(directory.outcome(cell).status == DONE for cell in larger.cells)
        assert {cell.id: (directory.run(cell) / "run.json").stat().st_mtime_ns for cell in plan.cells} == before
        new = [cell for cell in larger.cells if cell.arm.name == "stages.joint.steps = 0"]
        assert all(directory.run(cell).info()["shared"]["stage"] == "image" for cell in new), "nothing of it was left to train"
    finally:
        finished.write_text(text)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the workers are found through /proc")
def test_killed_and_started_again_it_ends_as_if_it_had_not_been(finished: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(finished.read_text().replace("seeds = 2", "seeds = 1"))
    plan, directory = opened(study)
    process = ablate(study, "--jobs", 2, wait=False, cold=True)
    deadline = time.monotonic() + 120
    while not list(directory.path.glob("runs/*/checkpoints/step-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for victim in (process.pid, *map(int, workers)):
        os.kill(victim, signal.SIGKILL)
    assert not all(directory.outcome(cell).status == DONE for cell in plan.cells)
    again = ablate(study, "--jobs", 2)
    assert again.stdout is not None
    assert again.returncode == 0, again.stdout.read()
    assert figures(directory, plan) == figures(opened(finished)[1], plan)


def test_an_interrupted_study_stops_with_checkpoints_and_says_so(tmp_path: Path, write_study) -> None:  # type: ignore[no-untyped-def]
    study = write_study('[set]\n"stages.text.steps" = 4000\n', seeds=1)
    process = ablate(study, wait=False)
    plan, directory = opened(study)
    deadline = time.monotonic() + 120
    while not (directory.run(plan.cells[0]) / "metrics.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command goes on" in said
    assert list(directory.run(plan.cells[0]).checkpoints.glob("step-*"))


def test_two_invocations_do_not_run_the_same_run_twice(tmp_path: Path, write_study) -> None:  # type: ignore[no-untyped-def]
    study = write_study(LAMBDA, seeds=1)
    first, second = ablate(study, "--jobs", 2, wait=False), ablate(study, "--jobs", 2, wait=False)
    said = [process.communicate(timeout=300)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), said
    plan, directory = opened(study)
    starts = sum(directory.log(cell).read_text().count("stage 1/3 text: 8 steps\n") for cell in plan.cells)
    assert starts == 1, "the text stage is the same in all three runs"
    assert sum(directory.log(cell).read_text().count("joint: 6 steps\n") for cell in plan.cells) == 3


def test_workers_stop_with_a_checkpoint_once_nobody_waits_for_them(write_study) -> None:  # type: ignore[no-untyped-def]
    study = write_study('[set]\n"stages.text.steps" = 40000\n', seeds=1)
    process = ablate(study, wait=False, cold=True)
    plan, directory = opened(study)
    run, log, deadline = directory.run(plan.cells[0]), directory.log(plan.cells[0]), time.monotonic() + 120
    while not (run / "metrics.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    while run.info()["status"] != "interrupted":
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    assert list(run.checkpoints.glob("step-*"))


def test_what_is_damaged_is_made_again(finished: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(finished.read_text())
    plan, directory = opened(study)
    shutil.copytree(finished.parent / "out", directory.path)
    before = figures(directory, plan)
    first, second, third = plan.cells[:3]
    directory.run(first).results.write_text("")
    (directory.run(second) / "run.json").write_text('{"status": "do')
    shutil.rmtree(directory.run(third).path)
    damaged = next(prefix for prefix in third.prefixes if prefix.stage == "image")
    (directory.shelf.path / damaged.key / end_of(damaged) / "state.json").write_text("{")
    (directory / "plan.json").write_text("{")
    process = ablate(study)
    assert process.stdout is not None
    assert process.returncode == 0, process.stdout.read()
    assert figures(directory, plan) == before


def test_a_report_of_other_runs_is_refused(finished: Path) -> None:
    process = ablate(finished, "--report", "--scale", 2)
    assert process.stdout is not None
    said = process.stdout.read()
    assert process.returncode == 2
    assert "none of them of this study as it stands" in said


def test_a_worker_sees_the_device_it_was_given_among_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7")
    assert [visible(device) for device in ("cuda:0", "cuda:1", "cpu")] == ["5", "GPU-7", ""]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible("cuda:1") == "1"


class Said(Watcher):
    """What a study told."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    def ended(self, cell, outcome, seconds) -> None:  # type: ignore[no-untyped-def]
        if outcome.status == FAILED:
            self.failures.append(f"{cell.arm.name}: {outcome.reason}")


def run_with(study: Path, code: str, monkeypatch: pytest.MonkeyPatch, jobs: int = 2) -> tuple[Plan, StudyDirectory, list[str]]:
    """Runs a study whose workers execute `code` before they start, with the arm's recipe at hand."""
    site = study.parent / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(
        "import sys\nif 'ibllm_study.worker' in ' '.join(sys.orig_argv):\n    task = sys.orig_argv[-1]\n"
        + "".join(f"    {line}\n" for line in code.splitlines())
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    plan, directory = opened(study)
    directory.prepare(plan)
    said = Said()
    Runner(plan, directory, make_launcher("local", (), Place(folder=directory / "jobs", jobs=jobs)), said).run()
    return plan, directory, said.failures


WRONG = """
if 'crashes' in task:
    import os
    print('boom', flush=True)
    os._exit(1)
if 'is-killed' in task:
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
if 'hangs' in task:
    import time
    time.sleep(1000)
import threading, time
def tick():
    while True:
        print("alive", flush=True)
        time.sleep(0.2)
threading.Thread(target=tick, daemon=True).start()
"""


SHORT = """
[set]
"stages.text.steps" = 0
"stages.image.steps" = 0
"stages.joint.steps" = 1
[variants]
"crashes" = { "losses.cycle" = false }
"""


def test_two_runs_that_fail_alike_keep_the_rest_of_their_arm_from_starting(write_study, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    study = write_study(SHORT, seeds=3)
    plan, directory, failures = run_with(
        study, "if 'crashes' in task:\n    import os\n    print('step 7 of it', flush=True)\n    os._exit(1)", monkeypatch, 1
    )
    assert failures == ["crashes: step 7 of it"] * 2
    assert [directory.outcome(plan.cell("base", seed)).status for seed in range(3)] == [DONE] * 3
    assert directory.outcome(plan.cell("crashes", 2)).status == WAITING
    again = ablate(study)
    assert again.stdout is not None
    said = again.stdout.read()
    assert again.returncode == 1
    assert "2 runs failed alike, so 1 more like them are not started: step 7 of it" in said
    assert "2 of 6 runs failed, 1 were not started, for they would fail alike" in said


def test_a_study_whose_runs_all_fail_alike_ends_after_two(write_study, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    study = write_study(SHORT, seeds=4)
    plan, directory, failures = run_with(
        study, "import os, random\nprint(f'item {random.random()} is none', flush=True)\nos._exit(1)", monkeypatch, 1
    )
    assert len(failures) == 2
    assert [directory.outcome(cell).status for cell in plan.cells].count(WAITING) == 6


def test_runs_that_go_wrong_are_recorded_and_harm_no_other(write_study, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    study = write_study(
        """silence = 4.0
[set]
"stages.text.steps" = 0
"stages.image.steps" = 0
"stages.joint.steps" = 2
[variants]
"crashes" = { "losses.cycle" = false }
"is killed" = { "losses.cycle.weight" = 2.0 }
"hangs" = { "losses.cycle.weight" = 3.0 }
""",
        seeds=1,
    )
    plan, directory, failures = run_with(study, WRONG, monkeypatch)
    assert sorted(failures) == [
        "crashes: boom",
        "hangs: hung: no sign of life for 4 s, so it was ended",
        "is killed: killed by SIGKILL (out of memory?)",
    ]
    assert directory.outcome(plan.cell("base", 0)).status == DONE
    assert all(directory.outcome(cell).status == FAILED and directory.log(cell).exists() for cell in plan.cells if cell.arm.name != "base")
    monkeypatch.delenv("PYTHONPATH")
    unasked = ablate(study)
    assert unasked.stdout is not None
    assert unasked.returncode == 1, "what failed is not tried again unasked"
    assert "3 of 4 runs failed" in unasked.stdout.read()
    study.write_text(study.read_text().replace("silence = 4.0", "silence = 600.0"))
    assert ablate(study, "--retry").returncode == 0
    assert all(directory.outcome(cell).status == DONE for cell in plan.cells)


def test_another_study_does_not_go_into_the_same_directory(finished: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(finished.read_text())
    command = processes.ibllm("ablate", other, "--study-dir", finished.parent / "out")
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 2
    assert "holds the study 'study', not 'other'" in process.stderr
    assert "Traceback" not in process.stderr
