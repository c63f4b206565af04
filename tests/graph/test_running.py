"""A run with a knowledge graph: what of its texts is linked is told, a graph that tells what held-out splits hide is refused, and the model opens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ibllm_cli.main import main

import ibllm

RECIPE = Path(__file__).parents[2] / "recipes" / "variations" / "graph.toml"
#: Sizes and steps with which it takes a second.
SHORT = (
    "model.width=16", "model.image_decoder.depth=1", "model.image_decoder.channels=4", "model.image_encoder.channels=[8]", "model.discriminator=false",
    "model.text_decoder.depth=1", "model.shared.words.depth=1", "model.shared.facts.width=8", "losses.adversarial=false", "losses.penalty=false",
    "training.batch=4", "training.ema=0", "stages.graph.steps=3", "stages.text.steps=3", "stages.image.steps=2", "stages.joint.steps=2",
    "evaluation.items=4", "evaluation.after_stage=0", "evaluation.samples=2", "compute.threads=1", "stages.text.validate.every=0",
    "stages.image.validate.every=0", "stages.joint.validate.every=0",
)  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("plain_runs")]


def run(*more: str, recipe: Path = RECIPE) -> int:
    return main(["run", str(recipe), *(word for one in (*SHORT, *more) for word in ("--set", one))])


def test_the_shipped_recipe_trains_and_its_model_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert run() == 0
    notices = json.loads(Path("runs/graph/run.json").read_text())["notices"]
    (linked,) = (notice for notice in notices if "linked to" in notice)
    assert linked.startswith("facts: the graph is linked to 20 of the 24 words of the training texts; not to 4 words: a, and, at, the")
    opened = ibllm.open("runs/graph")
    assert len(opened.generate(["a large red circle at the top left"])) == 1
    rows = [json.loads(line) for line in Path("runs/graph/metrics.jsonl").read_text().splitlines()]
    assert any("loss/links" in row for row in rows)


def test_a_graph_that_tells_what_is_held_out_is_refused_unless_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    # Every pair of a colour and a shape, some of which training never shows; a scene of one object.
    pairs = [
        f"{colour}\tgoes_with\t{shape}\n" for colour in ("red", "green", "blue", "cyan") for shape in ("circle", "square", "ring", "cross")
    ]
    Path("pairs.tsv").write_text("".join(pairs), encoding="utf-8")
    own = ("data.max_objects=1", f'model.shared.facts.path="{Path("pairs.tsv").resolve()}"', "evaluation.items=64")
    assert run(*own) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "model.shared.facts: the graph tells what held-out splits hide: split novel:" in said
    assert "goes with" in said and "say held_out = 'allow' where that is what is asked" in said
    assert run(*own, 'model.shared.facts.held_out="allow"', "evaluation.items=64") == 0
    notices = json.loads(Path("runs/graph/run.json").read_text())["notices"]
    assert any("as held_out = 'allow' says it may: split novel:" in notice for notice in notices)


def test_a_broken_graph_and_a_part_that_is_none_are_refused_before_anything_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "broken.tsv").write_text("red\tis\n", encoding="utf-8")
    assert main(["check", str(RECIPE), "--set", f'model.shared.facts.path="{tmp_path / "broken.tsv"}"']) == 2
    assert "broken.tsv:1: 2 columns: expected subject, relation and object, parted by tabs" in " ".join(capsys.readouterr().err.split())
    assert main(["check", str(RECIPE), "--set", 'model.text_encoder.reads="nobody"']) == 2
    assert 'the model has no text_encoder "nobody"' in " ".join(capsys.readouterr().err.split())
    assert main(["check", str(RECIPE), "--set", 'model.shared.words.kind="loss"']) == 2
    assert main(["check", str(RECIPE), "--set", 'model.text_encoder.graph="words"']) == 2
