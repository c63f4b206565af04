"""`ibllm run` and `ibllm evaluate` as a user meets them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ibllm
from ibllm.api import Run
from tests import processes

from .conftest import TINY, invoke

pytestmark = pytest.mark.slow


def ibllm_process(*arguments: object, cold: bool = False, **options: object) -> subprocess.Popen[str]:
    """The command; `cold`: in a process that is started as a user starts it."""
    command = [sys.executable, "-m", "ibllm", *map(str, arguments)] if cold else processes.ibllm(*arguments)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload, no-any-return]


def test_a_run_directory_holds_everything(finished: Path) -> None:
    for name in (
        "recipe.toml",
        "run.json",
        "results.json",
        "metrics.jsonl",
        "report.html",
        "model/weights.safetensors",
        "model/recipe.toml",
    ):
        assert (finished / name).is_file(), name
    assert list((finished / "tensorboard").glob("events*")), "TensorBoard events"
    assert len(list((finished / "samples").glob("novel-*-generated.png"))) == 2
    info = json.loads((finished / "run.json").read_text())
    assert info["status"] == "done"
    assert info["provenance"]["model.text_encoder"] == {
        "component": "text_encoder.transformer",
        "distribution": "ibllm",
        "version": ibllm.__version__,
    }
    assert [stage["done"] for stage in info["stages"]] == [8, 6, 6]


def test_results_hold_the_figures_of_every_reported_split(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    for split in ("test", "novel"):
        for figure in ("scene_exact", "object_exact", "caption_exact", "roundtrip_exact", "self_agreement"):
            assert 0 <= results[f"{split}/{figure}"] <= 1
        assert results[f"{split}/items"] == 8


def test_the_command_trains_and_says_where_everything_is(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = ibllm_process("run", TINY, "--run-dir", run, "--seed", 3, "--set", "stages.joint.steps=0", "--set", "stages.image.steps=2")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "stage 1/2 text: 8 steps" in out
    assert str(run / "report.html") in out
    assert "Traceback" not in err
    assert json.loads((run / "run.json").read_text())["seed"] == {"init": 3, "data": 3, "evaluation": 3}


def test_it_trains_and_prints_its_table_without_the_tools(tmp_path: Path) -> None:
    run, env = tmp_path / "run", os.environ | {"IBLLM_BLOCK": "study,report,author,testing"}
    sets = ("stages.text.steps=2", "stages.image.steps=0", "stages.joint.steps=0")
    process = ibllm_process("run", TINY, "--run-dir", run, *(part for key in sets for part in ("--set", key)), env=env)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "scenes right" in out
    assert "no report: blocked" in out.splitlines()
    assert "report.html" not in out
    assert not (run / "report.html").exists()
    assert json.loads((run / "run.json").read_text())["status"] == "done"
    assert err == ""


def test_a_second_run_in_the_same_place_is_refused(finished: Path) -> None:
    process = ibllm_process("run", TINY, "--run-dir", finished)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "exists already" in err
    assert "--resume" in err


def test_ctrl_c_stops_with_a_checkpoint_and_says_how_to_go_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = ibllm_process(
        "run", TINY, "--run-dir", run, "--set", "stages.text.steps=100000", cold=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "held out" in line:  # it is training
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert f"ibllm run {run} --resume" in err
    assert list((run / "checkpoints").glob("step-*"))
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nowhere.toml"], "nowhere.toml"),
        (["run", "{tmp}", "--resume"], "no run directory"),
        (["evaluate", "{tmp}"], "no run directory"),
        (["run", "{tiny}", "--run-dir", "{tmp}/r", "--set", "compute.device=cuda:99"], "cuda:99"),
        (["run", "{tiny}", "--run-dir", "{tmp}/r", "--set", "model.image_decoder.patch=7"], "patch = 7"),
    ],
)
def test_a_mistake_ends_with_2_and_no_traceback(tmp_path: Path, arguments: list[str], said: str) -> None:
    filled = [argument.format(tmp=tmp_path, tiny=TINY) for argument in arguments]
    process = ibllm_process(*filled, cwd=tmp_path)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2, err
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "r").exists(), "nothing is half-written"


def test_evaluate_gives_the_results_again(finished: Path) -> None:
    result = invoke("evaluate", finished, "--split", "novel", "--json")
    measured, kept = json.loads(result.output), json.loads((finished / "results.json").read_text())
    assert measured == {name: value for name, value in kept.items() if name.startswith("novel/")}


def test_evaluate_knows_the_splits(finished: Path) -> None:
    result = invoke("evaluate", finished, "--split", "nvel")
    assert "did you mean 'novel'?" in str(result.exception)


def test_a_run_opens_from_python(finished: Path) -> None:
    run = ibllm.open(finished)
    assert isinstance(run, Run)
    caption = "a large red circle at the top left"
    images, texts = run.model.round_trip([caption, caption])
    assert images.shape == (2, 32, 32, 3)
    assert len(texts) == 2
    assert (run.model.generate([caption], seed=1) == run.model.generate([caption], seed=1)).all()
    assert run.results["novel/items"] == 8


def test_a_recipe_runs_from_python(tmp_path: Path) -> None:
    run = ibllm.recipe(TINY, set=["stages.image.steps=0", "stages.joint.steps=0", "stages.text.steps=2"]).run(tmp_path / "run")
    assert run.info["status"] == "done"
