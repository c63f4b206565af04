"""`ibllm rules` checks data and samples; a run with rules as loss and metric says rule by rule what holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ibllm_cli.main import main
from ibllm_shapes.config import ShapesConfig
from ibllm_shapes.dataset import ShapesDataset

from ibllm.plugin import Context

RECIPE = Path(__file__).parents[2] / "recipes" / "variations" / "logic.toml"
#: Sizes and steps with which it takes a second.
SHORT = (
    "model.width=16", "model.image_decoder.depth=1", "model.image_decoder.channels=4", "model.image_encoder.channels=[8]", "model.discriminator=false",
    "model.text_decoder.depth=1", "model.text_encoder.depth=1", "losses.adversarial=false", "losses.penalty=false", "training.batch=4", "training.ema=0",
    "training.log_every=1", "stages.text.steps=2", "stages.image.steps=2", "stages.joint.steps=2", "evaluation.items=4", "evaluation.after_stage=0",
    "evaluation.samples=2", "compute.threads=1", "stages.text.validate.every=0", "stages.image.validate.every=0", "stages.joint.validate.every=0",
)  # fmt: skip
WORDS = "colour: red | green | blue | yellow | purple | cyan | orange | white\nshape: circle | square | triangle | diamond | cross | ring\nobjects are shape\n"


def sets(*some: str) -> list[str]:
    return [word for one in (*SHORT, *some) for word in ("--set", one)]


@pytest.mark.slow
@pytest.mark.usefixtures("plain_runs")
def test_a_run_has_rules_as_loss_and_as_metric_and_its_samples_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(RECIPE), *sets('losses.rules.reader="probe"', 'losses.rules.images=["drawn", "real"]')]) == 0
    rows = [json.loads(line) for line in Path("runs/logic/metrics.jsonl").read_text().splitlines()]
    logged = {key for row in rows for key in row if key.startswith("loss/rules/")}
    rules = ("one_colour", "one_size", "one_place", "apart", "drawn")
    assert logged == {f"loss/rules/{name}/{images}" for name in rules for images in ("drawn", "real")} | {
        "loss/rules/supervision", "loss/rules/objects_beyond",
    }  # fmt: skip
    results = json.loads(Path("runs/logic/results.json").read_text())
    assert all(0 <= results[f"{split}/rules_{what}"] <= 1 for split in ("test", "novel") for what in ("captions", "drawings"))
    capsys.readouterr()
    assert main(["rules", "runs/logic", "--items", "4", "--json"]) == 0
    (tables,) = json.loads(capsys.readouterr().out).values()
    assert [(table["of"], table["split"]) for table in tables] == [
        ("data", "train"), ("data", "test"), ("captions", "test"), ("drawings", "test"), ("data", "novel"), ("captions", "novel"), ("drawings", "novel"),
    ]  # fmt: skip
    # Nothing can be made of what an untrained model draws: the dataset's own reader says so.
    assert tables[3]["seen by"] == "the dataset's own reader" and tables[3]["nothing said of"] == 4
    shares = {row["rule"]: (row["applies"] > 0, row["holds"]) for row in tables[3]["rules"]}
    assert shares == {"drawn": (True, 0), **dict.fromkeys(rules[:4], (False, 0))}
    assert results["test/rules_drawings"] == 0
    assert all(row["holds"] == row["applies"] for row in tables[1]["rules"])


def test_the_data_of_a_recipe_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "wrong.rules").write_text(WORDS + "rule never: red(o) → circle(o)\n", encoding="utf-8")
    command = ["rules", str(RECIPE), "--rules", str(tmp_path / "wrong.rules"), "--split", "test", "--items", "32"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "data of test: 32 items, images as the dataset's own reader sees them" in said and "never" in said and "not in" in said
    assert main([*command, "--strict"]) == 2
    assert f"1 rule does not hold of the data: {tmp_path / 'wrong.rules'}:4:13: never" in " ".join(capsys.readouterr().err.split())
    assert main(["rules", str(RECIPE), "--split", "tset"]) == 2
    assert "--split tset: the data have no such split" in capsys.readouterr().err


def test_mistakes_are_told_with_their_place_before_anything_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "wrong.rules").write_text(WORDS + "for every object o: exactly one color(o)\n", encoding="utf-8")
    place = f"{tmp_path / 'wrong.rules'}:4:33: there is no class of words 'color': expected colour?"
    assert main(["rules", str(RECIPE), "--rules", str(tmp_path / "wrong.rules")]) == 2
    assert place in " ".join(capsys.readouterr().err.split())
    assert main(["check", str(RECIPE), "--set", f'losses.rules.file="{tmp_path / "wrong.rules"}"']) == 2
    assert place in " ".join(capsys.readouterr().err.split())
    assert main(["rules", str(RECIPE.parent.parent / "joint.toml")]) == 2
    assert "the recipe names no rules: expected --rules FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "split"),
    [({}, "novel"), ({"placement": "free"}, "test"), ({"placement": "count", "max_objects": 5}, "test"), ({"languages": ("zh",)}, "test")],
)
def test_the_dataset_says_what_its_images_show(options: dict[str, Any], split: str):
    dataset = ShapesDataset(ShapesConfig(**options), Context())
    samples = dataset.samples(split, np.arange(8))
    assert samples.images is not None
    assert list(dataset.describe(samples.images)) == list(samples.captions or ())
    assert dataset.describe(np.stack([samples.images[0] // 2, np.full_like(samples.images[0], 255)])) == [None, None]
