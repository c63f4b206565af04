"""A run may go on with other metrics, trackers and places to compute, never with another training; what changed is told and kept."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from ibllm_cli.main import main

from ibllm.changes import changes
from ibllm_core.errors import Notice, UserError
from ibllm_core.recipe import load
from ibllm_core.training.job import Interrupted, Job

from .conftest import TINY, invoke

pytestmark = pytest.mark.usefixtures("unrehearsed_runs")

SHORT = (
    "compute.device=cpu",
    "compute.threads=1",
    "stages.text.steps=2",
    "stages.image.steps=1",
    "stages.joint.steps=0",
    "evaluation.samples=1",
)


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A run that was stopped after its first step."""
    job = Job(load(TINY, SHORT), tmp_path / "run")
    job.stop()
    with pytest.raises(Interrupted):
        job.run()
    return tmp_path / "run"


def test_what_is_not_trained_yet_is_not_measured_and_a_damaged_record_is_told(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(stopped), "--without", "scene"]) == 2
    said = capsys.readouterr().err
    assert f"has no trained model yet: it is interrupted; go on with it: ibllm run {stopped} --resume --set metrics.scene=false" in said
    (stopped / "run.json").write_text("[]")
    assert main(["report", str(stopped)]) == 0
    said = capsys.readouterr().err
    assert said.startswith("warning: ")
    assert "run.json is damaged: it holds list, not a JSON object; the report is without it" in said


@pytest.mark.slow
def test_a_run_goes_on_without_a_metric_and_says_so(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = ["--set=metrics.scene=false", "--set=trackers.tensorboard=false", "--set=evaluation.items=4"]
    with pytest.warns(Notice, match=r"goes on with changes: metrics\.scene\.use is taken away; "):
        assert main(["run", str(stopped), "--resume", *taken]) == 0
    results, info = (json.loads((stopped / name).read_text()) for name in ("results.json", "run.json"))
    assert results["test/items"] == 4
    assert "test/scene_exact" not in results and "test/caption_exact" in results
    assert {"metrics.scene", "trackers.tensorboard"}.isdisjoint(info["provenance"])
    assert "metrics.caption_facts" in info["provenance"]
    (entry,) = info["resumed"]
    assert entry["step"] == 1
    assert entry["changes"] == ["metrics.scene.use is taken away", "trackers.tensorboard.use is taken away", "evaluation.items = 4"]
    assert "scene" not in tomllib.loads((stopped / "recipe.toml").read_text())["metrics"]
    capsys.readouterr()
    assert main(["evaluate", str(stopped), "--without", "round_trip", "--split", "test", "--json"]) == 0
    found = capsys.readouterr()
    assert set(json.loads(found.out)) == {
        "test/caption_exact", "test/caption_object_precision", "test/caption_object_recall", "test/items"
    }  # fmt: skip
    assert found.err == "left out: metrics.round_trip\n"
    refused = invoke("evaluate", stopped, "--without", "round_trp").exception
    assert isinstance(refused, UserError)
    assert str(refused) == "--without round_trp: the run has no such metric; did you mean 'round_trip'?"


@pytest.mark.slow
def test_it_does_not_go_on_with_another_training(stopped: Path) -> None:
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    refused = invoke("run", stopped, "--resume", "--set", "stages.text.lr=0.5", "--set", "metrics.scene=false").exception
    assert isinstance(refused, UserError)
    assert "run cannot go on with another training: stages.text.lr = 0.5. When a run goes on, only metrics, trackers" in str(refused)
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "change",
    [
        "metrics.mine.use=bleu",
        "metrics.scene=false",
        "trackers.tensorboard.folder='events'",
        "compute.threads=2",
        "stages.image.validate.metrics=['scene', 'caption_facts']",
        "evaluation.splits=['test']",
    ],
)
def test_what_no_weight_depends_on_may_change(change: str) -> None:
    (said,) = changes(load(TINY, SHORT).source, load(TINY, (*SHORT, change)), "runs/x")
    assert said.startswith(change.partition("=")[0].removesuffix(".use"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("seed=1", "seed = 1"),
        ("training.batch=4", "training.batch = 4"),
        ("compute.precision='bf16'", 'compute.precision = "bf16"'),
        ("evaluation.beams=2", "evaluation.beams = 2"),
        ("stages.image.validate.items=4", "stages.image.validate.items = 4"),
        ("losses.cycle.weight=2.0", "losses.cycle.weight = 2.0"),
        ("stages.image.validate.figure='scene_exact'", "stages.image.validate.figure"),
    ],
)
def test_what_weights_depend_on_may_not(change: str, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        changes(load(TINY, SHORT).source, load(TINY, (*SHORT, change)), "runs/x")
    assert f"runs/x cannot go on with another training: {reason}" in str(caught.value)


def test_a_metric_that_decides_in_a_stage_stays_as_it_is() -> None:
    watching = (*SHORT, "metrics.words.use=bleu", "stages.image.validate.figure='bleu'")
    started = load(TINY, watching).source
    assert changes(started, load(TINY, (*watching, "metrics.scene=false")), "runs/x")
    with pytest.raises(UserError, match=r"metrics\.words\.order = 2 \(its figures decide in a stage\)"):
        changes(started, load(TINY, (*watching, "metrics.words.order=2")), "runs/x")
