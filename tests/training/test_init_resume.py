"""A run that starts from another one and is resumed before its first checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ibllm_core.recipe import load
from ibllm_core.training.job import Job

from .conftest import TINY

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("plain_runs")]


def test_weights_that_were_learned_with_other_words_are_told(finished: Path, tmp_path: Path) -> None:
    other = shutil.copytree(finished, tmp_path / "other")
    (kept,) = (other / "model").glob("tokenizer-*.json")
    state = json.loads(kept.read_text(encoding="utf-8"))
    kept.write_text(json.dumps({**state, "pieces": state["pieces"][::-1]}), encoding="utf-8")
    steps = [f"stages.{name}.steps={count}" for name, count in (("text", 1), ("image", 0), ("joint", 0))]
    for run, told in ((finished, 0), (other, 2)):  # of both text parts
        place = tmp_path / f"of-{run.name}"
        Job(load(TINY, ["compute.device=cpu", "compute.threads=1", f"init={{ run = '{run}' }}", *steps]), place).run()
        notices = json.loads((place / "run.json").read_text())["notices"]
        assert len([text for text in notices if "has learned other words than the tokenizer" in text]) == told


def test_it_still_starts_from_the_other_ones_weights(finished: Path, tmp_path: Path) -> None:
    sets = [f"init={{ run = '{finished}' }}", "stages.image.steps=0", "stages.joint.steps=0", "stages.text.steps=3", "compute.threads=1"]
    recipe = load(Path(__file__).parent / "tiny.toml", ["compute.device=cpu", *sets])
    whole = Job(recipe, tmp_path / "whole").run()
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for checkpoint in (tmp_path / "cut" / "checkpoints").glob("step-*"):
        shutil.rmtree(checkpoint)
    record = tmp_path / "cut" / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"status": "interrupted", "stages": []}))
    assert Job(recipe, tmp_path / "cut").run(resume=True) == whole

    def losses(run: str) -> list[float]:
        rows = [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        return [row["loss/image_nll"] for row in rows if row["kind"] == "train"]

    assert losses("cut") == losses("whole")
