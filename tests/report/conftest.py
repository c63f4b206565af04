"""A run directory as a run leaves it, small, with names chosen to break a careless page."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ibllm_report import render
from PIL import Image

from ibllm.figures import NOT_INDEPENDENT, ROUND_TRIP, TEXT_TO_IMAGE, Figure, Mark
from ibllm.glossary import Glossary

HOSTILE = "<script>alert(1)</script>&\"'$x_1$"

#: What the run keeps of its figures, splits and marks, as if its metrics were installed nowhere.
GLOSSARY = Glossary(
    figures={
        figure.name: figure
        for figure in (
            Figure.share("scene_exact", "scenes right", TEXT_TO_IMAGE, "Every object is there."),
            Figure.share("self_agreement", "self-agreement", ROUND_TRIP, "Both halves agree.", caution=NOT_INDEPENDENT),
        )
    },
    splits={"test": "new items", "novel": "combinations never seen"},
    marks={
        mark.name: mark
        for mark in (
            Mark("scene", "drawing", "image right", "image wrong", meaning="An image is right if every object is there."),
            Mark("caption", "caption read", "caption right", "caption wrong"),
            Mark("roundtrip", "round trip", "round trip right", "round trip wrong"),
            Mark("self_agreement", "caption returned", "caption given back", "caption not given back", caution=NOT_INDEPENDENT),
        )
    },
    primary="novel",
)
RUN: dict[str, Any] = {
    **GLOSSARY.record(),
    "name": f"joint {HOSTILE}",
    "status": "done",
    "created": "2026-03-05T10:12:03+00:00",
    "finished": "2026-03-05T10:17:49+00:00",
    "command": f"ibllm run {HOSTILE}",
    "seed": {"init": 0, "data": 1, "evaluation": 2},
    "versions": {"ibllm": "0.1.0", "python": "3.11.9", "torch": "2.13.0"},
    "hardware": {"device": "cpu", "cpu": "a processor", "cores": 2, "threads": 2, "memory_gib": 7.8},
    "provenance": {"model.text_encoder": {"component": "text_encoder.transformer", "distribution": "ibllm", "version": "0.1.0"}},
    "parts": [
        {"part": part, "component": f"{part}.some", "parameters": 1200}
        for part in ("text_encoder", "image_decoder", "image_encoder", "text_decoder")
    ],
    "stages": [
        {"name": "text", "steps": 40, "done": 40, "seconds": 12.5, "best_step": 20, "figures": {}, "note": "went back to step 20"},
        {"name": "image", "steps": 40, "done": 40, "seconds": 72.0, "best_step": -1, "figures": {}, "note": ""},
    ],
    "timings": {"text": 12.5, "image": 72.0, "evaluation": 3.0},
    "metrics": {"novel": {"bleu": {"n": 512, "signature en": HOSTILE}, "kernel": {"n": 512, "extractor": "random", "ridge": 0.01}}},
    "attribution": "Drawings by somebody, CC BY-SA 4.0",
}
RESULTS = {
    "test/scene_exact": 0.95,
    "test/items": 512.0,
    "novel/scene_exact": 0.9,
    "novel/self_agreement": 0.8,
    "novel/items": 512.0,
    "novel/something_else": 0.25,
}
RECIPE = """format = 1
name = "joint"   # a <comment>
order = ["text", "image"]
[data]
use = "shapes"
languages = ["en", "zh"]
[stages.text]
steps = 40
train = ["text_encoder", "image_decoder"]
losses = { image_nll = 1.0 }
"""
ITEMS = [
    {
        "caption": "a small red circle at the top left",
        "language": "en",
        "read": "a small blue circle at the top left",
        "reread": "a small red circle at the top left",
        "right": {"scene": True, "caption": False, "roundtrip": True},
    },
    {
        "caption": "左上角有一个红色的小圆形",
        "language": "zh",
        "read": "一个红色的小圆形在左上角",
        "reread": "左上角有一个蓝色的小圆形",
        "right": {"scene": False, "caption": True, "roundtrip": False},
    },
    {"caption": HOSTILE, "language": "en", "read": f"other {HOSTILE}", "reread": ""},
]


def _rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for stage, start in (("text", 0), ("image", 40)):
        for step in range(start + 10, start + 41, 10):
            rows.append({"kind": "train", "stage": stage, "step": step, "time": 1.0, f"loss/{HOSTILE}": 1.0 / step, "lr/model": 1e-3})
        for step in range(start + 20, start + 41, 20):
            rows.append(
                {"kind": "validation", "stage": stage, "step": step, "scene_exact": step / 100, "self_agreement": step / 90, "loss": 3.0}
            )
    rows.append({"kind": "stage", "stage": "text", "step": 40, "novel/scene_exact": 0.7, "novel/self_agreement": 0.0})
    rows.append({"kind": "result", "stage": "end", "step": 80, **RESULTS})
    return rows


def write_run(folder: Path, *without: str, items: list[dict[str, Any]] = ITEMS, run: dict[str, Any] | None = None) -> Path:
    """Writes a whole run directory, but for the pieces named."""
    (folder / "samples").mkdir(parents=True)
    entries = []
    for k, item in enumerate(items):
        names = {kind: f"novel-{k:06d}-{kind}.png" for kind in ("real", "generated")}
        for name in names.values():
            Image.new("RGB", (32, 32), (20, 40 * k, 60)).save(folder / "samples" / name)
        entries.append({"index": k, **names, **item})
    pieces = {
        "run.json": json.dumps(RUN | (run or {})),
        "results.json": json.dumps(RESULTS),
        "metrics.jsonl": "".join(json.dumps(row) + "\n" for row in _rows()) + '{"kind": "tra',
        "recipe.toml": RECIPE,
        "samples/novel.json": json.dumps({"split": "novel", "items": entries}),
    }
    for name, text in pieces.items():
        if name not in without:
            (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    return functools.partial(write_run, tmp_path / "run")


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with everything in it and its report; for reading only."""
    folder = write_run(tmp_path_factory.mktemp("whole") / "run")
    render(folder)
    return folder
