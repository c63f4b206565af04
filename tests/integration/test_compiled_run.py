"""A run that is compiled by torch's own compiler learns what one learns that is not, and says what compiling took."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import ibllm
from ibllm_core.errors import Notice

from .needs import needs

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
SETS = (
    "stages.image.steps=0",
    "stages.joint.steps=0",
    "stages.text.steps=4",
    "training.log_every=2",
    "stages.text.validate.every=0",
    "trackers.tensorboard=false",
    "evaluation.items=2",
    "compute.device=cpu",
)


def rows(run: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if row["kind"] == "train"]


def test_a_compiled_run_gives_the_same_and_tells_its_time(tmp_path: Path) -> None:
    needs("a C++ compiler", shutil.which("g++") is not None)
    ibllm.recipe(TINY, set=(*SETS, "compute.compile=false")).run(tmp_path / "eager")
    with pytest.warns(Notice, match="parts are compiled when they are first used"):
        ibllm.recipe(TINY, set=(*SETS, "compute.compile=true")).run(tmp_path / "compiled")
    eager, compiled = rows(tmp_path / "eager"), rows(tmp_path / "compiled")
    assert len(eager) == len(compiled) == 2
    for one, other in zip(eager, compiled, strict=True):
        assert other["loss/image_nll"] == pytest.approx(one["loss/image_nll"], rel=1e-4)
    record = json.loads((tmp_path / "compiled" / "run.json").read_text())
    assert record["timings"]["compiling"] > 2 * record["timings"]["text"]
    assert compiled[0]["samples_per_second"] > 5  # with what compiling took, less than one
    assert any("parts are compiled" in notice for notice in record["notices"])
