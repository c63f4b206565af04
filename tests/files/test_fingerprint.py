"""A run knows what its data were: it goes on with the same, and with others only where they are accepted; a study's keys follow the content."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ibllm_cli.main import main
from ibllm_files.config import FilesConfig
from ibllm_files.loading import load_folder
from ibllm_study.sharing import prefixes, run_key
from PIL import Image

from ibllm.data_prints import ITEMS, differences, of_files, prints
from ibllm_core.errors import Notice
from ibllm_core.recipe import Recipe, load

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("IBLLM_CACHE", str(tmp_path / "cache"))
    load_folder.cache_clear()
    yield
    load_folder.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve cards and a table of their captions."""
    made = tmp_path / "cards"
    made.mkdir()
    for number in range(12):
        Image.new("RGB", (32, 32), (20 * number, 0, 0)).save(made / f"{number}.png")
    rows = [
        f"{number}.png,card number {number},{'test' if number > 9 else 'validation' if number > 7 else 'train'}" for number in range(12)
    ]
    (made / "captions.csv").write_text("\n".join(["image,caption,split", *rows]), encoding="utf-8")
    return made


def recipe(folder: Path, *sets: str) -> Recipe:
    away = ("metrics.scene", "metrics.caption_facts", "metrics.round_trip")
    given = (
        f"data={{use='files', path='{folder}/captions.csv', size=32}}",
        *(f"{name}=false" for name in away),
        "metrics.chrf={use='chrf'}",
    )
    return load(TINY, ["stages.image.validate.figure='chrf'", *given, *sets])


def edit(folder: Path, before: str, after: str) -> None:
    path = folder / "captions.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")
    load_folder.cache_clear()


def digest(folder: Path) -> str:
    return prints(recipe(folder))["data"].digest


def test_it_follows_content_and_options_not_the_place(folder: Path, tmp_path: Path) -> None:
    first = digest(folder)
    assert digest(folder) == first
    shutil.copytree(folder, tmp_path / "moved")
    assert digest(tmp_path / "moved") == first
    edit(folder, "number 3", "number three")
    edited = digest(folder)
    assert edited != first
    Image.new("RGB", (32, 32), (0, 0, 9)).save(folder / "5.png")
    assert len({first, edited, digest(folder)}) == 3
    assert prints(recipe(tmp_path / "moved", "data.size=16"))["data"].digest != first


def test_a_difference_is_counted_with_examples() -> None:
    before = [("a.png", "1"), ("a.png", "2"), ("b.png", "3"), ("c.png", "4")]
    assert differences(before, before) == []
    now = [("a.png", "1"), ("b.png", "x"), ("c.png", "4"), ("d.png", "5"), ("e.png", "6"), ("f.png", "7")]
    assert differences(before, now) == ["3 added (d.png, e.png, …)", "1 removed (a.png)", "1 edited (b.png)"]
    assert differences(before, before[::-1]) == ["1 edited (a.png)"] or differences(before[2:], before[:1:-1]) == ["the order of the items"]


def test_a_studys_keys_follow_the_content_and_those_of_made_data_have_none(folder: Path) -> None:
    before = recipe(folder)
    keys = [run_key(before), *(prefix.key for prefix in prefixes(before))]
    edit(folder, "number 3", "number three")
    after = recipe(folder)
    assert not set(keys) & {run_key(after), *(prefix.key for prefix in prefixes(after))}
    edit(folder, "number three", "number 3")
    assert run_key(recipe(folder)) == keys[0]
    assert of_files(load(TINY)) == {} and set(prints(load(TINY))) == {"data"}


@pytest.mark.slow
@pytest.mark.usefixtures("unrehearsed_runs")
def test_a_run_goes_on_with_the_same_data_or_asks(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, run = tmp_path / "recipe.toml", tmp_path / "run"
    short = ("stages.text.steps=2", "stages.text.validate.every=0", "stages.image.steps=0", "stages.joint.steps=0", "evaluation.items=4")
    source.write_text(recipe(folder, *short, "trackers.tensorboard=false").source, encoding="utf-8")
    assert main(["run", str(source), "--run-dir", str(run)]) == 0
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    first = info["fingerprint"]["data"]
    assert first == digest(folder) and "accepted_data" not in info
    with gzip.open(run / ITEMS, "rt") as file:
        assert [name for name, _ in json.load(file)["data"]] == [f"{number}.png" for number in range(12)]
    info["status"] = "interrupted"
    (run / "run.json").write_text(json.dumps(info), encoding="utf-8")
    edit(folder, "card number 3", "a red card")
    edit(folder, "\n0.png,card number 0,train", "")
    capfd.readouterr()
    assert main(["run", str(run), "--resume"]) == 2
    said = capfd.readouterr().err
    assert "was started with other data (data: 1 removed (0.png); 1 edited (3.png))" in said and "--accept-data" in said
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["fingerprint"]["data"] == first
    with pytest.warns(Notice, match="goes on with other data"):
        assert main(["run", str(run), "--resume", "--accept-data"]) == 0
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert info["fingerprint"]["data"] == digest(folder) != first and info["accepted_data"] == [{"data": first}]
    assert any("1 edited (3.png)" in notice for notice in info["notices"])


def test_contents_of_captions_alone_and_of_two_captions_of_an_image(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a red card\na blue card\n", encoding="utf-8")
    names = [name for name, _ in FilesConfig(path=str(tmp_path / "texts.txt"), holds="captions").contents()]
    assert names == ["a red card", "a blue card"]
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("image,caption\na.png,one\na.png,two\n", encoding="utf-8")
    found = FilesConfig(path=str(tmp_path / "t.csv")).contents()
    assert [name for name, _ in found] == ["a.png", "a.png"] and found[0][1] != found[1][1]
