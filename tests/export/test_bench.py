"""`ibllm bench` tells what each form of a model costs, and of each what it could not do."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from ibllm_cli.main import main
from ibllm_export import bench, onnx_files, worker
from ibllm_export.measuring import Arm, Plan, Timed, compare, judged
from ibllm_export.worker import _timed

import ibllm
from ibllm_core.errors import UserError

from .untrained import untrained

PLAN = Plan(["a red circle"], np.zeros((1, 32, 32, 3), np.uint8).tolist(), calls=2, rounds=1, batch=1, threads=1, budget=60)


def test_arms_are_compared_and_what_cannot_run_has_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = untrained(tmp_path, {"model": {}})

    def absent() -> None:
        raise UserError("onnxruntime is not installed: pip install 'ibllm[export]'")

    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(onnx_files, "require", absent)
    arms = ("--arm", "eager", "--arm", "int8", "--arm", "compiled", "--arm", "onnx")
    small = ("--rounds", "1", "--calls", "2", "--batch", "2", "--items", "2", "--threads", "1", "--budget", "300", "--json")
    code = main(["bench", str(folder), *arms, *small, "--markdown", str(tmp_path / "bench.md")])
    out, err = capsys.readouterr()
    assert code == 0, err
    rows = {row["name"]: row for row in json.loads(out)["arms"]}
    assert list(rows) == ["eager", "int8", "compiled", "onnx"]
    for name in ("eager", "int8"):
        assert 0 < rows[name]["draw"]["p50"] <= rows[name]["draw"]["p99"]
        assert rows[name]["caption"]["a_second"] > 0 and rows[name]["caption"]["a_second_batched"] > 0
        assert rows[name]["memory"] > rows[name]["size"] > 0 and rows[name]["figures"]
    assert set(rows["int8"]["change"]) == set(rows["eager"]["figures"])
    assert rows["int8"]["size"] < rows["eager"]["size"]
    assert rows["compiled"]["notes"] == ["torch.compile needs a C++ compiler, and there is none"]
    assert rows["onnx"]["notes"] == ["onnxruntime is not installed: pip install 'ibllm[export]'"]
    assert rows["onnx"]["draw"] is None
    table = (tmp_path / "bench.md").read_text()
    assert "- compiled: torch.compile needs a C++ compiler, and there is none" in table
    assert json.loads((folder / "bench.json").read_text())["markdown"] == table


def test_an_arm_that_takes_longer_than_its_budget_is_ended_and_told() -> None:
    [row] = compare([Arm("eager", Path("nowhere"))], attrs.evolve(PLAN, budget=0.01), "test", 0, lambda text: None)
    assert row.draw is None and row.notes == ["opening it did not fit into its 0.01 seconds (--budget)"]


def test_the_passes_that_use_goes_through_are_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened = ibllm.open(untrained(tmp_path, {"model": {}}), device="cpu")
    asked: list[str] = []

    def wrap(method: Any) -> Any:
        asked.append(method.__name__)
        return method

    monkeypatch.setattr(torch, "compile", wrap)
    monkeypatch.setattr(torch.compiler, "disable", lambda method: method)  # it stays for the whole process
    worker._compile(opened.model)
    assert asked == ["forward", "draw", "forward", "step"]
    del opened.model.parts["image_decoder"]
    worker._compile(opened.model)
    assert asked[4:] == ["forward", "forward", "step"]


def test_memory_is_of_the_process_itself() -> None:
    assert 1e6 < worker.peak() < 64e9


class Slow:
    """An arm that takes its time."""

    def draw(self, texts: list[str], seed: int) -> None:
        time.sleep(0.02)


def test_calls_end_with_their_time_after_one_at_least_which_is_told() -> None:
    order: dict[str, Any] = {"do": "draw", "items": ["a"], "batch": 1, "times": 50}
    assert len(_timed(Slow(), {**order, "within": 0.0})["seconds"]) == 1
    assert len(_timed(Slow(), {**order, "within": 0.1})["seconds"]) < 10
    row = bench.rows_of({"arms": [{"name": "onnx"}]})[0]
    Timed({"draw": [[0.02]]}, {"draw": [50.0]}).into(row, PLAN)
    assert row.notes == ["draw: 1 of 2 calls fitted into its time (--budget 60)"]
    assert row.draw == {"p50": 20.0, "p99": 20.0, "a_second": 50.0, "a_second_batched": 50.0}


def test_what_is_no_faster_than_eager_says_so() -> None:
    times = {"p50": 1.0, "p99": 1.0, "a_second": 10.0, "a_second_batched": 10.0}
    rows = bench.rows_of({"arms": [{"name": "eager", "draw": times}, {"name": "bf16", "draw": {**times, "a_second": 9.0}}]})
    judged(rows)
    assert rows[1].notes == ["no faster than eager here: drawing"] and not rows[0].notes
