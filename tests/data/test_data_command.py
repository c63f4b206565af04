"""``ibllm data``: what is wrong with data is seen before a step is spent."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ibllm_cli.main import main
from PIL import Image

from ibllm.languages import scripts

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
RECIPE = f"""format = 1
extends = "{TINY.as_posix()}"
name = "cards"
metrics = {{ scene = false, caption_facts = false, round_trip = false, chrf = {{ use = "chrf" }} }}
[data]
use = "files"
path = "captions.csv"
size = 16
broken = "skip"
max_broken = 0.5
[stages.image.validate]
figure = "chrf"
"""
ROWS = [
    ("a.png", "a red card", "en", "train"),
    ("a.png", "eine rote Karte", "de", "train"),
    ("b.png", "a blue card " * 12, "en", "train"),
    ("c.png", "एक लाल ताश", "hi", "validation"),
    ("d.png", "a red card", "en", "test"),
    ("copy.png", "a zebra", "en", "test"),
    ("broken.png", "a broken one", "en", "train"),
]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    for number, name in enumerate("abcd"):
        Image.new("L" if name == "b" else "RGB", [(40, 20), (8, 8), (16, 16), (16, 32)][number], number * 60 + 20).save(
            tmp_path / f"{name}.png"
        )
    Image.open(tmp_path / "a.png").save(tmp_path / "copy.png", compress_level=0)  # the same pixels in other bytes
    (tmp_path / "broken.png").write_bytes(b"no picture")
    lines = ["image,caption,language,split", *(",".join(row) for row in ROWS)]
    (tmp_path / "captions.csv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path / "recipe.toml"


def test_json_has_all_that_was_found(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", str(recipe), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    data = found["data"]["data"]
    assert {name: split["items"] for name, split in data["splits"].items()} == {"train": 3, "validation": 1, "test": 2}
    train, test = data["splits"]["train"], data["splits"]["test"]
    assert (train["images"], train["captions"], train["languages"]) == (2, 3, {"en": 2, "de": 1})
    assert (test["leaked_images"], test["leaked_captions"]) == (1, 1)
    assert data["splits"]["validation"]["scripts"] == {"Devanagari": 1}
    assert (train["texts"]["text"]["cut"], train["texts"]["text"]["texts"]) == (1, 3)
    assert "zebra" in test["texts"]["text"]["unknown"] and test["texts"]["text"]["unknowns"] == 1
    assert data["images"]["kinds"] == {"PNG RGB": 4, "PNG L": 1, "": 1} and data["images"]["broken"] == 1
    assert sorted(map(tuple, data["images"]["sizes"])) == [(0, 0), (8, 8), (16, 16), (16, 32), (40, 20), (40, 20)]
    assert len(data["left_out"]) == 1 and "broken.png" in data["left_out"][0]
    assert found["refused"] == [] and len(data["fingerprint"]) == 16


def test_the_terminal_fits_80_columns_and_the_page_has_the_pictures(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page = recipe.with_name("data.html")
    assert main(["data", str(recipe), "--html", str(page)]) == 0
    said = capsys.readouterr().out
    assert max(len(line) for line in said.splitlines() if str(page) not in line) <= 80  # a path is as long as it is
    for word in ("Splits", "Texts in tokens", "zebra", "Devanagari", "left out: ", "smaller than what the model sees"):
        assert word in said
    html = page.read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") == 6 and "a zebra" in html and "a run would start" in html
    assert not re.search(r"(src|href)=\"(?!data:|#)", html), "nothing is loaded from elsewhere"
    assert main(["data", str(recipe), "--html", str(page)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_what_a_run_would_refuse_is_refused(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", str(recipe), "--set", "data.broken=stop"]) == 2
    assert "broken.png" in capsys.readouterr().err
    assert main(["data", str(recipe), "--set", "tokenizers.text.size=8", "--json"]) == 2
    out, err = capsys.readouterr()
    assert "tokenizers.text" in err and json.loads(out)["refused"]
    table = recipe.with_name("captions.csv")
    table.write_text(table.read_text(encoding="utf-8").replace(",validation", ",train"), encoding="utf-8")
    assert main(["data", str(recipe), "--set", "data.validation=0"]) == 2
    out, err = capsys.readouterr()
    assert 'the split "validation" has no items' in err and "Splits" in out, "what there is is shown all the same"


def test_data_that_are_made_are_looked_at_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", str(TINY), "--items", "20", "--json", "--set", "data.languages=['en','zh']"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]["data"]
    assert set(data["splits"]["test"]["scripts"]) == {"Latin", "Han"} and data["splits"]["test"]["looked"] == 20
    assert data["images"] == {"seen_as": [3, 32, 32]} and data["licence"] == "mit"


def test_clean_removes_what_is_kept(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IBLLM_CACHE", str(tmp_path))
    assert main(["data", "clean"]) == 0
    assert capsys.readouterr().out == "nothing is kept\n"
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "index").write_bytes(b"x" * 5000)
    assert main(["data", "clean"]) == 0
    assert capsys.readouterr().out.startswith("removed 1 file, ") and not (tmp_path / "shards").exists()


def test_scripts_are_those_of_letters() -> None:
    assert scripts("Ein Ball, ２") == {"Latin"} and scripts("赤いボール") == {"Han", "Hiragana", "Katakana"} and scripts("12 !") == set()
    assert scripts("हिन्दी") == {"Devanagari"} and scripts("мяч") == {"Cyrillic"}
