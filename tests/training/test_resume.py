"""An interrupted run goes on bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ibllm_core.errors import UserError
from ibllm_core.training import checkpoints as checkpoints
from ibllm_core.training.job import Interrupted, Job
from tests.stopping import StopAt

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("plain_runs")]


def interrupted(recipe, path: Path, steps: int) -> Path:  # type: ignore[no-untyped-def]
    listener = StopAt(steps)
    listener.job = Job(recipe, path, [listener])
    with pytest.raises(Interrupted):
        listener.job.run()
    return path


def same_weights(a: Path, b: Path) -> bool:
    left, right = load_file(a / "model" / "weights.safetensors"), load_file(b / "model" / "weights.safetensors")
    assert left.keys() == right.keys()
    return all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("steps", [1, 5, 8, 11, 17], ids=lambda steps: f"after-{steps}")
def test_weights_are_bit_identical_after_a_restart(tiny, finished: Path, tmp_path: Path, steps: int) -> None:  # type: ignore[no-untyped-def]
    recipe = tiny("compute.device=cpu", "compute.threads=1")
    path = interrupted(recipe, tmp_path / "run", steps)
    assert json.loads((path / "run.json").read_text())["status"] == "interrupted"
    results = Job(recipe, path).run(resume=True)
    assert same_weights(path, finished)
    assert results == json.loads((finished / "results.json").read_text())


def test_another_seed_gives_other_weights(tiny, finished: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    Job(tiny("compute.device=cpu", "compute.threads=1", seed=1), tmp_path / "run").run()
    assert not same_weights(tmp_path / "run", finished)


def test_a_damaged_checkpoint_is_passed_over(tiny, finished: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    recipe = tiny("compute.device=cpu", "compute.threads=1")
    path = interrupted(recipe, tmp_path / "run", 5)
    newest = checkpoints.all_in(path / "checkpoints")[0]
    with (newest / "weights.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\xff\xff\xff\x7f")
    Job(recipe, path).run(resume=True)
    assert same_weights(path, finished)


def test_metrics_hold_every_step_once_after_a_restart(tiny, finished: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    recipe = tiny("compute.device=cpu", "compute.threads=1")
    path = interrupted(recipe, tmp_path / "run", 5)
    shutil.rmtree(checkpoints.all_in(path / "checkpoints")[0])  # lost, so steps 4 and 5 are done again
    Job(recipe, path).run(resume=True)

    def lines(run: Path) -> list[tuple[int, str]]:
        return [(line["step"], line["kind"]) for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())]

    assert lines(path) == lines(finished)


def test_a_finished_run_resumes_to_the_same_results(tiny, finished: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    copy = shutil.copytree(finished, tmp_path / "run")
    results = Job(tiny("compute.device=cpu", "compute.threads=1"), copy).run(resume=True)
    assert results == json.loads((finished / "results.json").read_text())


def test_an_existing_directory_is_left_as_it_is(tiny, finished: Path) -> None:  # type: ignore[no-untyped-def]
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    with pytest.raises(UserError, match="exists already"):
        Job(tiny(), finished).run()
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before
