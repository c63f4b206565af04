"""Shards are trained on from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ibllm_cli.main import main

from .conftest import picture, sample, shard, shards

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
RECIPE = f"""
format = 1
extends = "{TINY}"
name = "tiny"

[data]
use = "webdataset"
path = "shards"
train = "train-{{000..002}}.tar"
validation = "val-*.tar"
test = "test-*.tar"
size = 32

[metrics]
scene = false
caption_facts = false
round_trip = false
chrf = {{ use = "chrf" }}

[stages.text]
steps = 2
[stages.image]
steps = 2
[stages.joint]
steps = 0
[stages.image.validate]
figure = "chrf"
"""


@pytest.mark.slow
@pytest.mark.parametrize("streamed", [False, True])
def test_shards_are_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streamed: bool) -> None:
    monkeypatch.chdir(tmp_path)
    shards(tmp_path / "shards", 3, 6)
    shards(tmp_path / "shards", 1, 6, "test")
    cut = [("z.jpg", picture("red", "jpg", (400, 300))[:-700]), ("z.txt", b"red 0")]
    shard(tmp_path / "shards" / "val-0.tar", [*sample("a", "red", "red 0"), *cut, *(("../b.png", picture("red")),)])
    (tmp_path / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    sets = ["--set", 'data.broken="skip"', "--set", "data.max_broken=0.5"]
    sets += ["--set", "data.indexed=false", "--set", "data.items=18"] if streamed else []
    assert main(["run", "tiny.toml", *sets]) == 0
    info = json.loads(Path("runs/tiny/run.json").read_text(encoding="utf-8"))
    assert "data.validation: samples or members left out: 1" in info["notices"]
    assert any("images broken in the midst, whose places other items take: 1" in notice for notice in info["notices"])
    assert any("3 readers in turn" in notice for notice in info["notices"]) == streamed
    listed = Path("runs/tiny/left-out.txt").read_text(encoding="utf-8")
    assert "../b.png leaves its folder by .." in listed and "val-0.tar:z.jpg cannot be read" in listed


def test_a_split_without_shards_is_refused_before_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shards(tmp_path / "shards", 3, 2)
    shards(tmp_path / "shards", 1, 2, "val")
    (tmp_path / "tiny.toml").write_text(RECIPE.replace('test = "test-*.tar"\n', ""), encoding="utf-8")
    assert main(["run", "tiny.toml"]) == 2
    assert 'the split "test" has no items: name its shards, test = "{000..009}.tar"' in capsys.readouterr().err.replace("\n", " ")
