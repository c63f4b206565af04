"""A study's directory as its runs leave it, without training: names chosen to break a careless table, a run that failed and one that waits."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ibllm_study.directory import StudyDirectory
from ibllm_study.plan import Cell, Plan, make_plan
from ibllm_study.study_file import read_study
from PIL import Image

from ibllm_core.runs.directory import write_json

TINY = Path(__file__).parents[2] / "training" / "tiny.toml"
HOSTILE = "<script>alert(1)</script> & 100 % {x}_$y$ | \\input"

#: Arm → what it adds to novel/scene_exact; each has half of it for the other figures.
EFFECTS = {"base": 0.0, "no cycle": -0.08, "LSTM text encoder, one layer, as wide as the base's": -0.004, "λ = 0": 0.03, HOSTILE: -0.2}
STUDY = f"""\
# Does the cycle help?
# And does λ matter?
format = 1
base = "{TINY}"
seeds = SEEDS
primary = "novel/scene_exact"
[variants]
"no cycle" = {{ "losses.cycle" = false }}
"LSTM text encoder, one layer, as wide as the base's" = {{ "model.text_encoder" = {{ use = "lstm" }} }}
"λ = 0" = {{ "losses.joint.lambda" = 0.0 }}
{json.dumps(HOSTILE)} = {{ "stages.joint.steps" = 3 }}
"""


def figures(arm: str, seed: int) -> dict[str, float]:
    """What the run of an arm and a seed gave: a seed's own luck, the arm's effect, and a little of both."""
    luck, own = random.Random(f"seed {seed}").gauss(0, 0.03), random.Random(f"{arm} {seed}").gauss(0, 0.012)
    effect = EFFECTS.get(arm, 0.0)
    return {
        "test/scene_exact": 0.9 + luck + effect / 2 + own,
        "test/items": 512.0,
        "novel/scene_exact": 0.7 + luck + effect + own,
        "novel/caption_exact": 0.6 + luck - effect / 2 - own,
        "novel/self_agreement": 0.5 + luck + effect / 2 + own / 2,
        "novel/bleu": 0.41 + luck / 4 + own / 8,
        "novel/items": 512.0,
    }


def write_run(path: Path, cell: Cell, found: dict[str, float], **info: Any) -> None:
    """A finished run's directory, as far as the outputs read it."""
    (path / "samples").mkdir(parents=True)
    (path / "recipe.toml").write_text(cell.recipe.source, encoding="utf-8")
    write_json(path / "results.json", found)
    shift = [*EFFECTS, cell.arm.name].index(cell.arm.name)
    write_json(
        path / "run.json",
        {
            "name": cell.recipe.name,
            "status": "done",
            "seed": {"init": cell.seed, "data": cell.seed, "evaluation": cell.seed},
            "versions": {"ibllm": "0.1.0", "python": "3.11.7", "torch": "2.13.0"},
            "hardware": {"device": "cpu", "cpu": "a processor", "threads": 1},
            "provenance": {"data": {"component": "dataset.shapes", "distribution": "ibllm", "version": "0.1.0"}},
            "parts": [{"part": "text_encoder", "component": "text_encoder.lstm", "parameters": 1_200_000 + 90_000 * shift}],
            "stages": [{"name": name, "steps": 8, "done": 8} for name in ("text", "joint")],
            "timings": {"text": 200.0 + 10 * shift + cell.seed, "joint": 80.0, "evaluation": 5.0},
            "training_flops": 3.1e12 * (1 + shift / 3),
            "memory": {"peak_bytes": 300 * 2**20 + shift * 2**24},
            "metrics": {"novel": {"scene": {"n": 512, "captions": "25e4", "images": "47e6"}}},
            "attribution": None,
            **info,
        },
    )
    rows = []
    for stage, start in (("text", 0), ("joint", 8)):
        for step in (2, 4, 6, 8):
            values = {"scene_exact": found["novel/scene_exact"] * (start + step) / 16, "loss": 4.0 / (start + step)}
            rows.append({"step": start + step, "stage": stage, "time": 1.0, "kind": "validation", **values})
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    items = []
    for index in range(3):
        names = {kind: f"novel-{index:06d}-{kind}.png" for kind in ("real", "generated")}
        Image.new("RGB", (32, 32), (60 * index, 90, 20)).save(path / "samples" / names["real"])
        Image.new("RGB", (32, 32), (60 * index, 90, 40 * shift)).save(path / "samples" / names["generated"])
        items.append(
            {"index": index, "caption": f"caption {index} {HOSTILE}", "language": "en", **names, "right": {"scene": index != shift}}
        )
    write_json(path / "samples" / "novel.json", {"split": "novel", "items": items})


Made = tuple[Plan, StudyDirectory]


def make_study(folder: Path, seeds: int = 8, text: str = STUDY, without: frozenset[tuple[str, int]] = frozenset()) -> Made:
    """A study whose runs are there but for those named, of which the first failed."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "cycle & λ.toml"
    file.write_text(text.replace("SEEDS", str(seeds)), encoding="utf-8")
    plan = make_plan(read_study(file))
    directory = StudyDirectory(folder / "study")
    directory.prepare(plan)
    gone = sorted(without)
    for cell in plan.cells:
        place = (cell.arm.name, cell.seed)
        if place not in without:
            write_run(directory.run(cell).path, cell, figures(*place))
        elif place == gone[0]:
            directory.log(cell).write_text("killed\n")
            directory.fail(cell, f"killed by SIGKILL (out of memory?) {HOSTILE}")
    return plan, directory


@pytest.fixture(scope="session")
def make() -> Callable[..., Made]:
    return make_study


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A study with eight seeds whose outputs are written: one run failed, one waits. For reading only."""
    from ibllm_study.outputs import write_outputs

    made = make_study(tmp_path_factory.mktemp("whole"), without=frozenset({("no cycle", 3), ("λ = 0", 7)}))
    write_outputs(*made)
    return made
