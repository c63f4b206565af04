"""The script that measures the bar on a card: one tiny round of it on the CPU, and what it makes of what goes wrong."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from . import gpu


def rows(text: str) -> list[list[str]]:
    """The cells of the first table's rows."""
    return [line.strip("| ").split(" | ") for line in text.split("\n\n")[1].splitlines()[2:]]


def test_parts_that_need_no_process_of_their_own_play_a_tiny_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("flow", "vq", "numbers", "replay", "feed", "loop", "gan")
    path = tmp_path / "gpu.json"
    code = gpu.main(["--tiny", "--device", "cpu", "--json", str(path), *(word for name in names for word in ("--only", name))])
    found = json.loads(path.read_text())
    assert code == 0, [part.get("traceback") for part in found["parts"].values()]
    assert list(found["parts"]) == list(names)
    said = capsys.readouterr().out
    assert said.strip() == found["table"]
    now = {row[0]: row[1] for row in rows(said)}
    assert now["joint.toml, whole command"] == "not measured"
    assert now["flow, 64 px, batch 4"].endswith(" ms")
    assert " × hand-written eager" in now["vq_transformer 130 M"]
    assert float(now["loop over hand-written on CPU"]) > 0
    assert "busy" not in said.partition("beside it")[0].replace("busy reported", ""), "there is no card"


def test_a_part_that_fails_or_takes_too_long_costs_no_other(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(plan: gpu.Plan) -> gpu.Found:
        yield "eager", {"ratio": 1.25}
        raise RuntimeError("CUDA out of memory")

    def hangs(plan: gpu.Plan) -> gpu.Found:
        time.sleep(60)
        yield from ()

    monkeypatch.setattr(gpu, "PARTS", {"vq": (fails, 5), "flow": (hangs, 0.1), "loop": (lambda plan: iter([("ratio", 1.016)]), 5)})
    assert gpu.main(["--tiny", "--device", "cpu"]) == 1
    now = {row[0]: row[1] for row in rows(capsys.readouterr().out)}
    assert now["vq_transformer 130 M"] == "1.25 × hand-written eager", "what was there before"
    assert now["flow, 64 px, batch 4"] == "failed: TimeoutError: not done after 0 s"
    assert now["loop over hand-written on CPU"] == "1.016"


def test_the_table_is_that_of_the_bar() -> None:
    stage = {"step_ms": 20.7, "work_ms": 2.6, "busy": 0.126, "waiting": 0.01}
    results = {
        "command": {"command_s": 101.6},
        "steps": {size: {"text": stage, "image": stage | {"waiting": 0.034}, "joint": stage} for size in ("48", "512")} | {"seconds": 9.0},
        "flow": {"64": {"step_ms": 87.0}, "256": {"step_ms": 280.4, "waiting": 0.002}},
        "vq": {way: {"step_ms": 97.0, "by_hand_ms": 72.7, "ratio": 1.334} for way in ("eager", "compiled")},
        "feed": {"0": 9000.0, "1": 9500.0, "8": 61234.0, "seconds": 10.0},
        "loop": {"ratio": 1.0164},
        "replay": {"ok": False, "joint/text": {"ok": True}, "joint/image": {"ok": False}},
        "numbers": {"error": "RuntimeError: no"},
    }
    said = gpu.markdown(gpu.Plan(torch.device("cpu"), tiny=False), results)
    assert [row[:2] for row in rows(said)] == [
        ["joint.toml, whole command", "102 s"],
        ["joint.toml steps, batch 48", "20.7 / 20.7 / 20.7 ms (card's work 2.6 / 2.6 / 2.6; busy 13 / 13 / 13 %)"],
        ["flow, 64 px, batch 256", "280 ms"],
        ["vq_transformer 130 M", "1.33 × hand-written compiled"],
        ["feed, 8 workers", "61,234 items/s; waiting 3.4 % of the time at most (joint image)"],
        ["loop over hand-written on CPU", "1.016"],
    ]
    assert "| replayed and eager iterations are bit-equal | NO joint/image |" in said
    assert "| random numbers equal the CPU's (floats within 1 ulp) | failed: RuntimeError: no |" in said
    assert "| a resumed run is bit-equal | not measured |" in said


def test_without_a_card_it_measures_nothing() -> None:
    with pytest.raises(SystemExit):
        gpu.main(["--device", "cpu"])
