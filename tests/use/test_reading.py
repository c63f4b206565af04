"""``ibllm caption``, ``score`` and ``ask``: what they read, and what they say of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ibllm_cli.main import main
from PIL import Image

import ibllm
from ibllm_core.errors import UserError

from .conftest import TINY, WITHOUT

Shell = Callable[..., Any]

#: What makes a model that asks and answers of tiny.toml.
QUESTIONS = (
    "data.questions=true",
    "losses.question_nll={ use = 'question_nll' }",
    "losses.answer_nll={ use = 'answer_nll' }",
    "stages.both.losses={ text_nll = 1.0, question_nll = 1.0, answer_nll = 1.0 }",
)
#: A recipe that trains on captions that a model wrote.
OWN = """
format = 1
extends = "{tiny}"
name = "own"

[data]
use = "files"
path = "captions.csv"
size = 32
validation = 0
test = 0
"""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Images of several sizes and modes in a folder, with what is none beside them."""
    folder = tmp_path / "mine"
    (folder / "deep").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name, mode, size in [
        ("a.png", "RGB", (32, 32)),
        ("b.jpg", "L", (90, 40)),
        ("deep/c.webp", "RGBA", (7, 300)),
        (".hidden/d.png", "RGB", (9, 9)),
    ]:
        Image.new(mode, size, 200 if mode == "L" else (200, 30, 40, 90)[: len(mode)]).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def test_images_of_any_size_and_mode_are_captioned(shell: Shell, run: Path, images: Path) -> None:
    said = shell("caption", run, "mine/a.png", "mine", "--json")
    assert [item["image"] for item in said.json["items"]] == ["mine/a.png", "mine/b.jpg", "mine/deep/c.webp"], "each once"
    assert all(len(item["captions"]) == 1 for item in said.json["items"])
    assert "mine: 3 images; passed over: 1 hidden, 1 that are no images" in said.notices
    plain = shell("caption", run, "mine/b.jpg")
    assert plain.out == f"mine/b.jpg\t{said.json['items'][1]['captions'][0]['text']}\n"
    listed = shell("caption", run, "-", typed=b"mine/b.jpg\n")
    piped = shell("caption", run, "-", typed=(images / "b.jpg").read_bytes())
    assert listed.out == plain.out
    assert piped.out == plain.out.replace("mine/b.jpg", "-")


def test_an_image_that_cannot_be_read_is_told(shell: Shell, run: Path, images: Path) -> None:
    (images / "broken.png").write_bytes((images / "a.png").read_bytes()[:60])
    named = shell("caption", run, "mine/broken.png")
    assert named.code == 2
    assert "mine/broken.png" in named.err
    found = shell("caption", run, "mine", "--json")
    assert found.code == 0
    assert "broken" not in found.out
    assert any("mine/broken.png" in notice and "passed over" in notice for notice in found.notices), found.notices


def test_the_n_best_captions_come_with_log_p(shell: Shell, run: Path, images: Path) -> None:
    said = shell("caption", run, "mine/a.png", "--n-best", "3", "--json")
    written = said.json["items"][0]["captions"]
    assert len({one["text"] for one in written}) == 3
    assert [one["log_p"] for one in written] == sorted((one["log_p"] for one in written), reverse=True)
    assert written[0]["log_p"] < 0


@pytest.mark.slow
def test_a_recipe_trains_on_the_captions_and_the_run_tells_who_wrote_them(
    shell: Shell, run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ibllm_core.model.model.Model.caption", lambda self, images, **_: ["a red thing", "a grey thing", ""][: len(images)]
    )
    said = shell("caption", run, "mine", "-o", "captions.csv")
    assert "captions.csv: 1 captions have no word and are left out" in said.notices
    with (tmp_path / "captions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    by = f"ibllm caption {run}"
    assert rows == [
        {"image": "mine/a.png", "caption": "a red thing", "written_by": by},
        {"image": "mine/b.jpg", "caption": "a grey thing", "written_by": by},
    ]
    assert shell("caption", run, "mine", "-o", "captions.csv").code == 2, "it is there already"
    (tmp_path / "own.toml").write_text(OWN.format(tiny=TINY), encoding="utf-8")
    monkeypatch.setenv("IBLLM_BLOCK", WITHOUT)
    with pytest.warns(UserWarning, match=r"2 of 2 captions were written by a machine \(ibllm caption"):
        assert main(["run", "own.toml", "--set", "evaluation.splits=['train']"]) == 0
    info = json.loads((tmp_path / "runs/own/run.json").read_text(encoding="utf-8"))
    assert any("written by a machine" in notice for notice in info["notices"])
    assert "written by a machine" in (tmp_path / "runs/own/model/ATTRIBUTION.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["captions.tsv", "captions.jsonl"])
def test_other_tables_are_written_too(shell: Shell, run: Path, images: Path, tmp_path: Path, name: str) -> None:
    from ibllm_files.config import FilesConfig
    from ibllm_files.dataset import FilesDataset

    said = shell("caption", run, "mine", "--temperature", "1", "-o", f"tables/{name}")
    assert said.code == 0, said.err
    config = FilesConfig(path=str(tmp_path / "tables" / name), size=16, validation=0.0, test=0.0, outside=True)
    data = FilesDataset(config, None)
    assert any("outside = true" in notice for notice in said.notices), "its images are in another folder"
    assert 0 < data.sizes()["train"] <= 3
    assert "were written by a machine" in data.notes()[0]


def test_pairs_are_scored_from_arguments_and_tables(shell: Shell, run: Path, images: Path) -> None:
    said = shell("score", run, "mine/a.png", "a red circle", "mine/b.jpg", "a whale", "--json")
    first, second = said.json["items"]
    assert first["text_given_image"] < 0
    assert (first["image"], second["text"]) == ("mine/a.png", "a whale")
    assert sum("whale" in notice for notice in said.notices) == 1
    (images / "pairs.csv").write_text("caption,image\na red circle,a.png\na whale,b.jpg\n", encoding="utf-8")
    again = shell("score", run, "--from", "mine/pairs.csv", "--json")
    assert [item["text_given_image"] for item in again.json["items"]] == [first["text_given_image"], second["text_given_image"]]
    alone = shell("score", run, "mine/a.png", "a red circle")
    heads, line = (row.split("\t") for row in alone.out.splitlines())
    assert heads == ["image", "text", "log p(text | image)", "log p(image | text)", "agreement"] and line[3] == "-"
    assert "log p(image | text) is - for all of them: the model's image decoder measures no likelihood" in alone.notices
    assert line[:3] == ["mine/a.png", "a red circle", f"{first['text_given_image']:.4f}"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["caption", "RUN"], "no image: give files or folders as arguments"),
        (["caption", "RUN", "none.png"], "there is no image none.png"),
        (["caption", "RUN", "mine/a.png", "-o", "a.txt"], "a.txt: expected a table ending in .csv, .tsv, .jsonl"),
        (["caption", "RUN", "mine/a.png", "--n-best", "2", "--beams", "3", "--temperature", "1"], "expected one of the two"),
        (["caption", "RUN", "mine/notes.txt"], "mine/notes.txt"),
        (["score", "RUN", "mine/a.png"], "'mine/a.png' has no partner"),
        (["score", "RUN", "--from", "mine/notes.txt"], "mine/notes.txt:1: expected an image and a text, with a tab between"),
    ],
)
def test_a_mistake_is_told_without_a_traceback(shell: Shell, run: Path, images: Path, words: list[str], message: str) -> None:
    said = shell(*(run if word == "RUN" else word for word in words))
    assert said.code == 2
    assert message in said.err
    assert said.out == ""


def test_images_are_found_by_text_and_their_index_is_kept(
    shell: Shell, run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IBLLM_CACHE", str(tmp_path / "cache"))
    said = shell("search", run, "mine", "a red circle", "a whale", "-k", "2", "-o", "found.png", "--json")
    assert said.code == 0, said.err
    assert [len(item["found"]) for item in said.json["items"]] == [2, 2]
    first = said.json["items"][0]["found"]
    assert first[0]["agreement"] >= first[1]["agreement"]
    assert {one["image"] for one in first} < {"mine/a.png", "mine/b.jpg", "mine/deep/c.webp"}
    assert sum("whale" in notice for notice in said.notices) == 1
    assert (tmp_path / "found.png").is_file()
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 1
    assert not any("IBLLM_CACHE" in notice for notice in said.notices), "a variable that is known"
    again = shell("search", run, "mine", "a red circle", "-k", "2")
    assert again.out == "".join(f"{one['image']}\t{one['agreement']:.4f}\n" for one in first)
    assert sorted(path.name for path in (tmp_path / "mine").rglob("*") if path.is_file()) == [
        "a.png",
        "b.jpg",
        "c.webp",
        "d.png",
        "notes.txt",
    ]


def test_a_model_asks_and_answers(shell: Shell, trained: Callable[..., Path], images: Path) -> None:
    asked = trained(*QUESTIONS)
    said = shell("ask", asked, "mine/a.png", "-n", "2", "--json")
    assert [item["invented"] for item in said.json["items"]] == [True, True], said.err
    assert len({item["question"] for item in said.json["items"]}) == 2, "each is drawn by a seed of its own"
    given = shell("ask", asked, "mine", "what colour is the circle?", "how many whales are there?", "--json")
    assert [(item["image"], item["question"]) for item in given.json["items"]] == [
        (image, question)
        for image in ("mine/a.png", "mine/b.jpg", "mine/deep/c.webp")
        for question in ("what colour is the circle?", "how many whales are there?")
    ]
    assert sum("whales" in notice for notice in given.notices) == 1
    line = shell("ask", asked, "mine/a.png", "what colour is the circle?").out
    assert line == f"what colour is the circle?\t{given.json['items'][0]['answer']}\n"


def test_a_model_that_was_not_taught_to_ask_says_so(shell: Shell, run: Path, images: Path) -> None:
    said = shell("ask", run, "mine/a.png")
    assert said.code == 2
    assert "was trained on no questions" in said.err
    with pytest.raises(UserError, match="was trained on no questions"):
        ibllm.open(run).answer("mine/a.png", "what colour is the circle?")
