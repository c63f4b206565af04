"""A run that starts from another one and is resumed before its first checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ibllm_core.recipe import load
from ibllm_core.training.job import Job

pytestmark = pytest.mark.slow


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
